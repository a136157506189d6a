//! The content of an entry: it must be about the signature in question, in a kind that fits, and nothing else.

use super::*;

#[test]
fn an_entry_of_another_signature_proves_nothing_however_good_it_is() {
    let log = Log::new();
    for (signature, kinds) in [
        (Signature::legacy(), &["hashedrekord", "rekord"][..]),
        (Signature::enveloped(), &["dsse", "intoto", "second"]),
    ] {
        let judged = |signed: &Signature, body: &[u8]| {
            let verdict = match signed.payload {
                None => judge_annotation(&log, signed, &log.annotation(body)),
                Some(_) if kind_of(body).0 == "hashedrekord" => judge(&[&log], signed, &[log.second_entry(body, 0, 1)]),
                Some(_) => judge(&[&log], signed, &[log.entry(body, 0, 1)]),
            };
            verdict.err().map(|failure| failure.to_string())
        };
        for kind in kinds {
            assert_eq!(judged(&signature, &signature.body(kind)), None, "{kind}");
            let foreign = Signature::over(signature.message.clone(), signature.payload.clone());
            for (what, wrong) in [
                ("signature", Signature { bytes: foreign.bytes, ..same(&signature) }),
                ("another key", Signature { pem: foreign.pem, public: foreign.public, ..same(&signature) }),
                ("content", {
                    let (message, payload) = (b"other".to_vec(), signature.payload.as_ref().map(|_| b"other".to_vec()));
                    Signature { message, payload, ..same(&signature) }
                }),
            ] {
                let why = judged(&signature, &wrong.body(kind)).unwrap_or_default();
                assert!(why.starts_with("TLOG_REQUIRED: ") && why.contains(what), "{kind} {what}: {why}");
            }
        }
    }
}

fn same(signature: &Signature) -> Signature {
    let Signature { public, pem, bytes, message, payload } = signature;
    let (public, pem, bytes) = (public.clone(), pem.clone(), bytes.clone());
    Signature { public, pem, bytes, message: message.clone(), payload: payload.clone() }
}

#[test]
fn a_body_of_a_kind_that_does_not_belong_there_is_refused() {
    let (log, legacy, enveloped) = (Log::new(), Signature::legacy(), Signature::enveloped());
    let annotated = |body: &[u8]| judge_annotation(&log, &legacy, &log.annotation(body)).unwrap_err();
    for kind in ["dsse", "intoto", "second"] {
        assert!(annotated(&legacy.body(kind)).to_string().contains("is of kind"), "{kind}");
    }
    let bundled = |body: &[u8]| judge(&[&log], &enveloped, &[log.entry(body, 0, 1)]).unwrap_err();
    for kind in ["hashedrekord", "rekord"] {
        assert!(bundled(&enveloped.body(kind)).to_string().contains("is of kind"), "{kind}");
    }
    let edited = |kind: &str, old: &str, new: &str| {
        let body = String::from_utf8(enveloped.body(kind)).unwrap();
        assert!(body.contains(old), "{old} in {body}");
        body.replacen(old, new, 1).into_bytes()
    };
    // The first in-toto kind contains no signature to compare.
    assert_eq!(bundled(&edited("intoto", "0.0.2", "0.0.1")).class, ErrorClass::TlogRequired);
    let (old, new) = (r#""payloadHash":{"algorithm":"sha256""#, r#""payloadHash":{"algorithm":"sha512""#);
    assert_eq!(bundled(&edited("dsse", old, new)).class, ErrorClass::TlogRequired);
    for (kind, old, new) in [
        ("dsse", "\"verifier\"", "\"Verifier\""),
        ("dsse", "\"kind\"", "\"kind\":\"dsse\",\"kind\""),
        ("dsse", "\"payloadHash\"", "\"x\""),
        ("intoto", "\"sig\":\"", "\"sig\":\"KioqKioq"),
    ] {
        assert_eq!(bundled(&edited(kind, old, new)).class, ErrorClass::SigFormat, "{kind} {new}");
    }
    for (kind, signatures) in [("dsse", "/spec/signatures"), ("intoto", "/spec/content/envelope/signatures")] {
        let mut body: Value = serde_json::from_slice(&enveloped.body(kind)).unwrap();
        let list = body.pointer_mut(signatures).unwrap().as_array_mut().unwrap();
        list.push(list[0].clone());
        assert!(bundled(body.to_string().as_bytes()).to_string().contains("exactly one signature"), "{kind}");
    }
    let entry = log.entry(&enveloped.body("dsse"), 0, 1);
    for (pointer, new) in [("/kindVersion/kind", "intoto"), ("/kindVersion/version", "0.0.2")] {
        assert_eq!(class(judge(&[&log], &enveloped, &[replaced(&entry, pointer, new)])), Some(ErrorClass::SigFormat));
    }
}

#[test]
fn the_second_rekor_names_content_by_the_hash_that_goes_with_the_key() {
    use sha2::{Digest as _, Sha384, Sha512};
    let (log, signature) = (Log::new(), Signature::enveloped());
    let (sha384, sha512) = (Sha384::digest(&signature.message), Sha512::digest(&signature.message));
    for (algorithm, digest, is_it) in [
        ("SHA2_384", &sha384[..], true),
        ("SHA2_512", &sha512[..], true),
        ("SHA2_512", &sha384[..], false),
        ("SHA2_384", &sha384[..32], false),
        ("SHA3_384", &sha384[..], false),
        ("SHA2_256", b"", false),
    ] {
        let body: Value = serde_json::from_slice(&signature.body("second")).unwrap();
        let body = replaced(&body, "/spec/hashedRekordV002/data/algorithm", algorithm);
        let body = replaced(&body, "/spec/hashedRekordV002/data/digest", STANDARD.encode(digest));
        let verdict = judge(&[&log], &signature, &[log.second_entry(body.to_string().as_bytes(), 0, 1)]);
        assert_eq!(verdict.is_ok(), is_it, "{algorithm} {digest:?}");
    }
}
