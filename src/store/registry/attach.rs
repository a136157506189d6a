//! The fallback index: how referrers are told to registries without a Referrers API (distribution-spec, "Referrers Tag
//! Schema"). The tag `sha256-<hex>` of the subject names an index that every client reads, changes and writes back.

use bytes::Bytes;
use serde_json::{Value, json};

use super::list::MAX_VALUES;
use super::{Registry, own_failure_may_pass, suffix};
use crate::error::{Error, Kind, Result};
use crate::oci::{Descriptor, Digest, Manifest, MediaType, Name, Tag, weight};
use crate::wire::Retry;

/// How often an entry is written that somebody else overwrites.
const MAX_WRITES: u32 = 10;

impl Registry {
    /// Makes `node` an entry of its subject's fallback index, and sees that it stays.
    pub(super) async fn attach(&self, subject: &Digest, node: &Descriptor, manifest: Manifest) -> Result<()> {
        let tag = fallback_tag(subject)?;
        let lock = self.notes.fallback_lock(format!("{}:{tag}", self.path));
        let _only_one = lock.lock().await;
        let entry = Descriptor {
            artifact_type: manifest.referrer_type().cloned(),
            annotations: manifest.annotations,
            ..Descriptor::new(node.media_type.clone(), node.digest, node.size)
        };
        let wrong =
            |why: serde_json::Error| self.error(Kind::Invalid, "attach", suffix(&Name::Tag(tag.clone()))).because(why);
        let entry = serde_json::to_value(entry).map_err(wrong)?;
        for _ in 0..MAX_WRITES {
            let mut index: Value = match self.fallback_index(subject).await? {
                Some(bytes) => serde_json::from_slice(&bytes).map_err(wrong)?,
                None => json!({"schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": []}),
            };
            if holds(&index, &entry) {
                return Ok(());
            }
            if !add(&mut index, entry.clone()) {
                let why = "the tag is kept for an index of referrers, and what it holds is none";
                return Err(self.error(Kind::Invalid, "attach", suffix(&Name::Tag(tag))).because(why));
            }
            let bytes = Bytes::from(serde_json::to_vec(&index).map_err(wrong)?);
            let name = Name::Tag(tag.clone());
            self.host
                .retrying(own_failure_may_pass, || async {
                    let answer = self.put_bytes(&name, &MediaType::OCI_INDEX, &bytes).await?;
                    answer.discard().await;
                    Ok(())
                })
                .await?;
            // Once around: another client may have written between our reading and our writing.
        }
        let why = format!("other clients have overwritten the entry {MAX_WRITES} times");
        Err(self.error(Kind::Unavailable, "attach", suffix(&Name::Tag(tag))).because(why))
    }

    /// The fallback index of `subject`, if there is one.
    pub(super) async fn fallback_index(&self, subject: &Digest) -> Result<Option<Bytes>> {
        let name = Name::Tag(fallback_tag(subject)?);
        let (node, bytes) = match self.host.retrying(Retry::refetchable, || self.get(&name)).await {
            Err(error) if error.kind() == Kind::NotFound => return Ok(None),
            found => found?,
        };
        if node.media_type.is_index() {
            if weight::exceeds(&bytes, MAX_VALUES) {
                let why = format!("the fallback index holds more than {MAX_VALUES} values");
                let what = suffix(&Name::Digest(*subject));
                return Err(self.error(Kind::Limit, "list referrers of", what).because(why));
            }
            return Ok(Some(bytes));
        }
        let why = format!("the tag is kept for an index of referrers, and holds a {}", node.media_type);
        Err(self.error(Kind::Invalid, "list referrers of", suffix(&Name::Digest(*subject))).because(why))
    }
}

fn fallback_tag(subject: &Digest) -> Result<Tag> {
    subject.fallback_tag().parse().map_err(|why| Error::new(Kind::Invalid, "attach").on(subject).because(why))
}

fn holds(index: &Value, entry: &Value) -> bool {
    let entries = index.get("manifests").and_then(Value::as_array);
    entries.is_some_and(|entries| entries.iter().any(|own| own.get("digest") == entry.get("digest")))
}

/// Adds an entry and leaves everything else as it is, known or not. `false` if there is no place for one.
fn add(index: &mut Value, entry: Value) -> bool {
    let Some(fields) = index.as_object_mut() else { return false };
    match fields.entry("manifests").or_insert(Value::Null) {
        Value::Array(entries) => entries.push(entry),
        none @ Value::Null => *none = json!([entry]),
        _ => return false,
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_entries_and_unknown_fields_stay() {
        let mut index = json!({"schemaVersion": 2, "x": [1], "manifests": [{"digest": "a", "y": {}}, "nonsense"]});
        let entry = json!({"digest": "b"});
        assert!(!holds(&index, &entry));
        assert!(add(&mut index, entry.clone()));
        assert!(holds(&index, &entry));
        assert_eq!(
            index,
            json!({"schemaVersion": 2, "x": [1], "manifests": [{"digest": "a", "y": {}}, "nonsense", {"digest": "b"}]})
        );
        let mut null = json!({"manifests": null});
        assert!(add(&mut null, entry.clone()));
        assert!(holds(&null, &entry));
        for strange in [json!([]), json!("x"), json!({"manifests": {}})] {
            assert!(!add(&mut strange.clone(), entry.clone()), "{strange}");
        }
    }
}
