"""`python -m training` makes the bundle."""

from training.run import main

main()
