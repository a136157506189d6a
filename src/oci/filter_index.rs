//! Removes entries from indexes: every remaining byte is the source's own, in its order. So unknown fields stay, and the
//! same removal gives the same digest on every machine.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Digest, ManifestError};

/// Whether an entry stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryFate {
    /// It stays as it is.
    Keep,
    /// It is removed.
    Drop,
    /// It refers to this content instead, and keeps all its other fields.
    Become(Bytes),
}

#[derive(Deserialize)]
struct FilteredIndex<'a> {
    #[serde(borrow)]
    manifests: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct KeptEntry<'a> {
    #[serde(borrow)]
    digest: &'a RawValue,
    #[serde(borrow)]
    size: &'a RawValue,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
}

/// Returns the index `bytes`, with each entry as `fate` decides for its digest.
///
/// # Errors
///
/// [`ManifestError::Json`] if it is not an index.
pub fn narrow(bytes: &[u8], fate: impl Fn(&Digest) -> EntryFate) -> Result<Bytes, ManifestError> {
    // The same bounds as for every other reader: text that is too deep or too long is refused here.
    let text = std::str::from_utf8(bytes).map_err(|why| ManifestError::Json(serde::de::Error::custom(why)))?;
    let FilteredIndex { manifests } = serde_json::from_str(text)?;
    let mut kept = Vec::with_capacity(manifests.len());
    for entry in &manifests {
        let parts: KeptEntry<'_> = serde_json::from_str(entry.get())?;
        match fate(&serde_json::from_str(parts.digest.get())?) {
            EntryFate::Keep => kept.push(entry.get().to_owned()),
            EntryFate::Drop => {}
            EntryFate::Become(content) => kept.push(replaced(entry.get(), &parts, &content)),
        }
    }
    let (Some(first), Some(last)) = (manifests.first(), manifests.last()) else {
        return Ok(Bytes::copy_from_slice(bytes));
    };
    if kept.iter().map(String::as_str).eq(manifests.iter().map(|entry| entry.get())) {
        return Ok(Bytes::copy_from_slice(bytes));
    }
    // Keeps the source's list style: on one line, or on many.
    let between = match &manifests[..] {
        [one, two, ..] => &text[end(text, one.get())..start(text, two.get())],
        _ => ",",
    };
    let (head, tail) = (&text[..start(text, first.get())], &text[end(text, last.get())..]);
    Ok(format!("{head}{}{tail}", kept.join(between)).into())
}

/// Returns `entry` with the fields replaced that identify its content. Embedded content that is too short to be that of
/// the source stays as it is: it was wrong before.
fn replaced(entry: &str, parts: &KeptEntry<'_>, content: &[u8]) -> String {
    let mut values = vec![
        (parts.digest.get(), format!("\"{}\"", Digest::sha256(content))),
        (parts.size.get(), content.len().to_string()),
    ];
    // Embedded content never grows: many entries may list one index, and claim to embed it.
    let fits = |data: &&&RawValue| content.len().div_ceil(3) * 4 + 2 <= data.get().len();
    let data = parts.data.as_ref().filter(fits);
    values.extend(data.map(|data| (data.get(), format!("\"{}\"", STANDARD.encode(content)))));
    values.sort_by_key(|(part, _)| part.as_ptr().addr());
    let (mut made, mut done) = (String::new(), 0);
    for (part, value) in values {
        made.push_str(&entry[done..start(entry, part)]);
        made.push_str(&value);
        done = end(entry, part);
    }
    made + &entry[done..]
}

/// Returns where `part`, a slice of `text`, begins in it.
fn start(text: &str, part: &str) -> usize {
    part.as_ptr().addr() - text.as_ptr().addr()
}

fn end(text: &str, part: &str) -> usize {
    start(text, part) + part.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(name: &str) -> Digest {
        Digest::sha256(name.as_bytes())
    }

    fn without(names: &[&str]) -> impl Fn(&Digest) -> EntryFate {
        let gone: Vec<_> = names.iter().map(|name| digest(name)).collect();
        move |digest| if gone.contains(digest) { EntryFate::Drop } else { EntryFate::Keep }
    }

    /// Returns a pretty-printed index with unknown fields, and with numbers that few writers would write so.
    fn index() -> String {
        let entry = |name: &str| {
            format!(
                "    {{\n      \"x\": 1.50e1, \"size\": 3,\n      \"digest\": \"{}\", \"y\": [\"]\"]\n    }}",
                digest(name)
            )
        };
        let entries = ["a", "b", "c"].map(entry).join(",\n");
        format!("{{\n  \"z\": {{\"b\":1,\"a\":2}},\n  \"manifests\": [\n{entries}\n  ],\n  \"annotations\": null\n}}\n")
    }

    #[test]
    fn what_stays_is_what_the_source_wrote_to_the_byte() {
        let index = index();
        let part = |name: &str| {
            let at = index.find(&digest(name).to_string()).unwrap();
            let from = index[..at].rfind("    {").unwrap();
            index[from..].split_inclusive("\n    }").next().unwrap().to_owned()
        };
        for (gone, expected) in [
            (&["b"][..], index.replace(&format!("{},\n", part("b")), "")),
            (&["a"][..], index.replace(&format!("{},\n", part("a")), "")),
            (&["c"][..], index.replace(&format!(",\n{}", part("c")), "")),
            (
                &["a", "c"][..],
                index.replace(&format!("{},\n", part("a")), "").replace(&format!(",\n{}", part("c")), ""),
            ),
            (&[][..], index.clone()),
        ] {
            assert_eq!(narrow(index.as_bytes(), without(gone)).unwrap(), expected, "without {gone:?}");
        }
    }

    #[test]
    fn an_entry_that_becomes_another_says_all_else_that_it_said() {
        let become_node = |_: &Digest| EntryFate::Become(Bytes::from_static(b"narrowed"));
        let source =
            format!(r#"{{"manifests":[{{"data":"eHh4eHh4eHg=", "size": 8 ,"k":"v","digest":"{}"}}]}}"#, digest("a"));
        let expected = format!(
            r#"{{"manifests":[{{"data":"bmFycm93ZWQ=", "size": 8 ,"k":"v","digest":"{}"}}]}}"#,
            digest("narrowed")
        );
        assert_eq!(narrow(source.as_bytes(), become_node).unwrap(), expected);
    }

    #[test]
    fn content_is_embedded_only_where_the_source_embedded_as_much() {
        let become_node = |_: &Digest| EntryFate::Become(Bytes::from_static(b"narrowed"));
        for data in ["", "bmFycm93ZW="] {
            let entry = format!(r#"{{"size":100,"data":"{data}","digest":"{}"}}"#, digest("a"));
            let source = format!(r#"{{"manifests":[{}]}}"#, [entry.as_str(); 3].join(","));
            let narrowed = narrow(source.as_bytes(), become_node).unwrap();
            assert!(narrowed.len() <= source.len(), "{narrowed:?}");
            let data = format!(r#""data":"{data}","digest":"{}""#, digest("narrowed"));
            assert_eq!(str::from_utf8(&narrowed).unwrap().matches(&data).count(), 3, "{narrowed:?}");
        }
    }

    #[test]
    fn what_is_no_index_is_refused() {
        for text in ["", "{}", r#"{"manifests":1}"#, r#"{"manifests":[{}]}"#, r#"{"manifests":[],"manifests":[]}"#] {
            assert!(narrow(text.as_bytes(), |_| EntryFate::Keep).is_err(), "{text}");
        }
        assert!(narrow(b"\xff", |_| EntryFate::Keep).is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(text in "[{}\\[\\],:\"a-z0-9]{0,60}") {
            let _ = narrow(text.as_bytes(), |_| EntryFate::Drop);
        }
    }
}
