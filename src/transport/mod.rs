//! Image-level movers behind one trait.

pub mod skopeo;
