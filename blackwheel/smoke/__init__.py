"""Runs a wheel: imports it, loads its libraries, checks its kernels, and measures its speed.

In: an audited wheel, installed beside the pinned torch. Out: `SmokeReport` (`smoke`): the device,
or "import only, because …". `loading` loads every library, `environment` checks a stack's wheels
together, `diagnosis` explains a crash. `checks` holds the kernel checks and their runner (standard
library and torch: `python3 -m blackwheel.smoke.checks WHEEL`), `inside` what runs in the
environment, `bench` what measures it.
"""
