"""Operations rewritten for speed, most of them for CPUs, each equal to plain torch: the network reads as the paper."""
