"""Programs of the checkout that are not part of the package: the demo and the generator of documentation tables."""
