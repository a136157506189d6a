//! How a file is opened, on every system.

/// How to open a file. The number is the mode of a created file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    Read,
    /// Reading and writing.
    Change,
    /// Reading, and writing at the end.
    Append,
    /// Like `Change`, and creates the file if it is missing.
    Make(u32),
    /// Creates the file; an error if it exists.
    MakeNew(u32),
}
