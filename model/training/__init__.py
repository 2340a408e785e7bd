"""Training a recipe: preparation, the memory probe, optimiser steps, the loop of epochs, broken batches."""
