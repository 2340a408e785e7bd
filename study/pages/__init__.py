"""What every HTML page of a study is made of: one file that needs no network, in light and dark, wide and narrow."""
