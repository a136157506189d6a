//! Images that nobody has signed for this site: the digest in the source's reference takes the place of a signature.

use clap::Args;

use crate::error::{Error, Kind, Result};
use crate::oci::Reference;
use crate::workflow::Trust;

/// Ways to copy without a signature. No environment variable stands in for them.
#[derive(Debug, Args)]
pub(crate) struct WithoutSignature {
    /// Verify the content against the digest in the source's reference, and no signature: for publishers who do not sign;
    /// recorded
    #[arg(long, conflicts_with_all = ["pub_key", "skip_verify"])]
    pub(crate) pinned: bool,
    /// No verification: development only
    #[arg(long)]
    pub(crate) skip_verify: bool,
}

impl WithoutSignature {
    /// Returns the flag that was given, for messages.
    pub(crate) fn flag(&self) -> Option<&'static str> {
        match self {
            Self { pinned: true, .. } => Some("--pinned"),
            Self { skip_verify: true, .. } => Some("--skip-verify"),
            _ => None,
        }
    }

    /// Returns the trust in images from these sources.
    ///
    /// # Errors
    ///
    /// [`Usage`](Kind::Usage), with the text `missing`, if neither flag is given, and for a pinned source without a digest.
    pub(crate) fn trust<'a>(
        &self,
        missing: &'static str,
        mut sources: impl Iterator<Item = &'a Reference>,
    ) -> Result<Trust> {
        let unpinned = sources.find(|from| from.digest.is_none());
        match (self.flag(), unpinned) {
            (Some("--pinned"), Some(from)) => {
                let error = Error::new(Kind::Usage, "--pinned needs a source by digest").on(from);
                Err(error.hint(format!("write {from}@sha256:…, the digest that you trust")))
            }
            (Some("--pinned"), None) => Ok(Trust::Pinned),
            (Some(_), _) => Ok(Trust::Skip),
            (None, Some(_)) => Err(Error::new(Kind::Usage, missing)),
            (None, None) => {
                let hint =
                    "for a publisher who does not sign, give --pinned: the content is checked against this digest";
                Err(Error::new(Kind::Usage, missing).hint(hint))
            }
        }
    }
}

/// The remark of a run on a pinned image.
pub(crate) const REMARK: &str = "pinned: the content is verified against its digest, the publisher is not";
