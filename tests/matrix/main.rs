#![allow(clippy::unwrap_used, dead_code)]
#[path = "../it/images/mod.rs"]
mod images;
#[path = "../it/matrix/mod.rs"]
mod matrix;
