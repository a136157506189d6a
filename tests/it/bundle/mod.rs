//! `autonomy bundle`, the whole program.

mod keys;
mod seal;
mod verify;
