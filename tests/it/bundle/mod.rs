//! `autonomy bundle`, the whole program.

mod blob;
mod keys;
mod seal;
mod verify;
