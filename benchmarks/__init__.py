"""What deepgen is measured by."""
