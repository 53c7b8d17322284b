"""Reference draws made once, in summary, and the scripts that made them."""
