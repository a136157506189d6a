//! The destination tags already used, so that no two images of a run are put under one tag.

use std::collections::HashMap;

use super::{Entry, located};
use crate::error::{Error, Kind, Result};
use crate::oci::Reference;

/// Destination tags and the entries that claimed them. Sidecar tags count: `<tag>-lock` of one image must not be another.
#[derive(Debug, Default)]
pub struct Destinations {
    claims: HashMap<String, ClaimedTag>,
}

#[derive(Debug, Clone, Copy)]
struct ClaimedTag {
    line: u64,
    is_sidecar: bool,
}

impl Destinations {
    /// Claims `to`, and the tags of its sidecars, for an image of `entry`.
    ///
    /// # Errors
    ///
    /// [`Usage`](Kind::Usage), naming both lines, if one of them is claimed already.
    pub fn claim(&mut self, to: &Reference, entry: &Entry) -> Result<()> {
        let Some(tag) = &to.tag else { return Ok(()) };
        let repository = to.repository.canonical();
        let sidecars = if entry.copy_policy { &["-lock", "-policy"][..] } else { &[] };
        for ending in [""].iter().chain(sidecars) {
            let claim = ClaimedTag { line: entry.line, is_sidecar: !ending.is_empty() };
            let former = self.claims.insert(format!("{repository}:{tag}{ending}"), claim);
            if let Some(former) = former {
                let name = format!("{}:{tag}{ending}", to.repository);
                return Err(clash(&name, former, claim));
            }
        }
        Ok(())
    }
}

fn clash(name: &str, former: ClaimedTag, claim: ClaimedTag) -> Error {
    let what = match (former.is_sidecar, claim.is_sidecar) {
        (false, false) => "is the destination of two images",
        (true, true) => "is the sidecar of two images",
        _ => "is the destination of one image and a sidecar of another",
    };
    let lines = match (former.line, claim.line) {
        (0, _) | (_, 0) => String::new(),
        (one, other) if one == other => format!(", both of line {one}"),
        (one, other) => format!(", lines {one} and {other}"),
    };
    let error = Error::new(Kind::Usage, format!("{name} {what}{lines}"));
    located(error, claim.line).hint("give each image a destination tag of its own")
}
