"""Operations written for speed on CPUs, each equal to plain torch; the network reads as the paper without them."""
