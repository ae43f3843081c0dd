"""Single weights that become zero, and how zeros are stored small."""
