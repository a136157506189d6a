//! Any text: no parser panics.

use super::*;

proptest::proptest! {
    #[test]
    fn no_text_makes_the_readers_panic(text in r#"(\{|\}|"Payload":|"SignedEntryTimestamp":|"body":|"logID":|"logIndex":|1|""|,|\PC){0,15}"#) {
        proptest::prop_assert!(Entry::from_annotation(&text).is_err());
        let _ = Checkpoint::parse(&text);
    }

    #[test]
    fn no_body_makes_its_reader_panic(spec in r#"(\{|\}|\[|\]|"hash":|"signature":|"signatures":|"content":|"AA=="|"x"|,){0,15}"#) {
        let signature = Signature::enveloped();
        for (kind, version) in [("dsse", "0.0.1"), ("intoto", "0.0.2"), ("hashedrekord", "0.0.2")] {
            let text = format!(r#"{{"kind":"{kind}","apiVersion":"{version}","spec":{spec}}}"#);
            if let Ok(body) = body::parse(text.as_bytes()) {
                proptest::prop_assert!(body::check(&body, &signature.signed()).is_err());
            }
        }
    }
}
