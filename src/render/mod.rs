//! Text that other programs read: zot's configuration, a compose file, a Zarf package.
//!
//! Pure: takes values, gives text. Whoever calls decides where it goes. Every text is checked against the schema or the
//! source of the program that reads it, and every value in it is quoted: a path or a reference never becomes syntax.

pub(crate) mod compose;
mod yaml;
pub(crate) mod zarf;
pub(crate) mod zot;
