//! Which of the things attached to an image travel with it.

/// Which of the things attached to an image travel with it (contract §6).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Accessories {
    /// Those of every manifest that is copied.
    #[default]
    All,
    /// Those of the root alone.
    Root,
    /// What verification needs and no more.
    None,
}
