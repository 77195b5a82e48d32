"""The raw call of the extension, on a CPU."""

from flash_attn import PLANTED, attention


def fwd(q, k, v, out, slopes, dropout, scale, causal, left, right, softcap, probs, generator):
    written = attention(q, k, v, causal, (left, right), softcap, slopes)[0]
    out.copy_(written)
    if PLANTED == "writes-beyond":
        whole = out._base
        whole[:, out.shape[1]] = 0
    return [out]
