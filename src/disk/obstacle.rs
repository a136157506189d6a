//! Obstacles: other things in the place of a file.
//!
//! A name that a file needs may be taken. A plain file is replaced in one step, and so is anything without content: a
//! symbolic link, a pipe, a socket, a device. A file cannot replace a folder. An empty folder is removed; any other
//! folder is moved aside with its content, because the content may belong to another user. None of this follows a link
//! or opens a file.

use std::fs::Metadata;
use std::io;

use super::passing_name::{TEMPORARY, passing_name};
use super::place::Place;

/// Prefix of the names of folders that were moved aside. They stay until the operator looks at them and removes them.
pub(crate) const ASIDE: &str = ".aside-";

/// Number of tries if another process moves the folder at the same time.
const TRIES: usize = 16;

/// Returns a name for this type of file, for messages.
pub(crate) fn kind_of(about: &Metadata) -> &'static str {
    let kind = about.file_type();
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt as _;
        if kind.is_fifo() {
            return "a pipe";
        }
        if kind.is_socket() {
            return "a socket";
        }
        if kind.is_block_device() || kind.is_char_device() {
            return "a device";
        }
    }
    if kind.is_symlink() {
        "a symbolic link"
    } else if kind.is_dir() {
        "a folder"
    } else if kind.is_file() {
        "a plain file"
    } else {
        "no plain file"
    }
}

impl Place {
    /// Clears this name for a file that will be renamed to it.
    pub(super) fn make_way(&self) -> io::Result<()> {
        for _ in 0..TRIES {
            let Some(about) = self.look()?.filter(|about| !about.is_file()) else { return Ok(()) };
            let (file, what) = (self.path(), kind_of(&about));
            if !about.is_dir() {
                tracing::warn!(file = %file.display(), what, "replacing what lies in the place of a file");
                return Ok(());
            }
            // Fails on a file that another process has put there meanwhile, as `move_folder` does.
            if self.remove_folder().is_ok_and(|is_removed| is_removed) {
                tracing::warn!(file = %file.display(), what, "removed what lay in the place of a file, as it was empty");
                return Ok(());
            }
            let name = passing_name().map_err(io::Error::other)?.replacen(TEMPORARY, ASIDE, 1);
            let aside = self.parent().join(name);
            match self.move_folder(&aside) {
                Ok(()) => {
                    let to = aside.path();
                    tracing::warn!(file = %file.display(), what, to = %to.display(), "moved aside what lay in the place of a file");
                    return Ok(());
                }
                Err(why) if matches!(why.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
                Err(why) => return Err(why),
            }
        }
        Err(io::Error::other("a folder lies there again and again"))
    }
}
