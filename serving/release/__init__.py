"""A version of a network on its way: tried, placed, loaded, confirmed, promoted or taken back."""
