//! Names of unfinished files.

use crate::error::{Error, Kind, Result};

/// Prefix of the names of temporary files; no content has a name that starts like this.
pub(crate) const TEMPORARY: &str = ".tmp-";

/// Returns a name that no other file has.
pub(crate) fn passing_name() -> Result<String> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes)
        .map_err(|why| Error::new(Kind::Local, "draw a random name").because(why.to_string()))?;
    Ok(format!("{TEMPORARY}{}", hex::encode(bytes)))
}
