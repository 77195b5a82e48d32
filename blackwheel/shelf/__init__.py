"""Keeps finished wheels on a shelf, and publishes them from it.

In: smoked wheels with their receipts. Out: `ShelvedWheel` in a directory index that pip and uv use
as it is (`index`, `simple_api`, `wheel_file`), pages for people (`landing_page`), and wheels on an
index that were read back (`publish`, through `gate`, which lets only proved wheels pass). `verify`
recomputes what receipts say (`verify_receipt`, `verify_pages`); `remote_index`, `upload` and
`readback` talk to a server; `prune` takes old wheels off; `consumer_lock` writes hashed pins.
"""
