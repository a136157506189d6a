//! Checks what the sink claims to hold: its length, or every byte of it.
//!
//! Disks truncate files and flip bits, and a registry reports both as present until the bytes are read. The length costs
//! one small request and shows truncation; only reading back shows the rest.

use std::sync::Arc;

use futures_util::StreamExt;

use super::Presence;
use crate::error::{Error, Kind, Result, Side};
use crate::oci::Descriptor;
use crate::store::{Body, Store};

/// The result of checking one node.
#[derive(Debug)]
pub(super) enum Look {
    /// The sink holds it, and it is right as far as it was checked.
    Sound,
    /// The sink does not hold it, or cannot be asked.
    Absent,
    /// The sink holds something that does not match the descriptor; the error says how.
    Damaged(Error),
}

/// Checks `node` at the sink, as closely as `presence` says.
///
/// # Errors
///
/// Returns the sink's errors that say nothing about the node.
pub(super) async fn look(sink: &Arc<dyn Store>, node: &Descriptor, presence: Presence) -> Result<Look> {
    let looked = match presence {
        Presence::EveryByte => read_back(sink, node).await.map(|()| true),
        Presence::Vouched | Presence::EveryNode => sink.contains(node).await,
    };
    match looked {
        Ok(true) => Ok(Look::Sound),
        Ok(false) => Ok(Look::Absent),
        // A node that the sink cannot be asked about is put: the PUT asks in another way.
        Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Unsupported) => Ok(Look::Absent),
        Err(error) if error.kind() == Kind::Corrupt => Ok(Look::Damaged(error)),
        // A registry that checks what it reads answers 500 for a manifest that is damaged in its storage.
        Err(error) if error.kind() == Kind::Unavailable && node.is_manifest() => Ok(Look::Damaged(error)),
        Err(error) => Err(error.at(Side::Destination)),
    }
}

/// Reads all of `node` and discards it. A body checks its bytes; it treats its store as a source.
async fn read_back(sink: &Arc<dyn Store>, node: &Descriptor) -> Result<()> {
    let mut stream = Body::stored(node.clone(), Arc::clone(sink)).open();
    while let Some(piece) = stream.next().await {
        if let Err(error) = piece {
            let told = Error::new(error.kind(), "read back").on(format!("{}@{}", sink.label(), node.digest));
            return Err(told.because(error.chain().trim_start_matches("source: ").to_owned()).at(Side::Destination));
        }
    }
    Ok(())
}

/// Returns the error for a sink that does not return what was put there.
pub(super) fn still_damaged(sink: &dyn Store, node: &Descriptor, look: Look) -> Error {
    let told = Error::new(Kind::Corrupt, "replace what is damaged").on(format!("{}@{}", sink.label(), node.digest));
    let told = match look {
        Look::Damaged(why) => told.because(why.chain()),
        Look::Absent | Look::Sound => told.because("it was put, and is not there"),
    };
    told.at(Side::Destination).hint(
        "some registries keep a blob that they believe to hold, whatever is sent: delete it there, or restore its storage, and \
         run it again",
    )
}
