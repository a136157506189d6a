//! Image-level movers behind one trait.
