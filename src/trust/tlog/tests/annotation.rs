//! Annotations of legacy signatures: a valid promise is trusted, and any change to it is detected.

use super::*;

#[test]
fn a_promise_about_a_legacy_signature_is_believed() {
    let (log, signature) = (Log::new(), Signature::legacy());
    for kind in ["hashedrekord", "rekord"] {
        let annotation = log.annotation(&signature.body(kind));
        let recorded = judge_annotation(&log, &signature, &annotation).unwrap().unwrap();
        let short = &log.public().fingerprint()[..12];
        assert_eq!(recorded.to_string(), format!("log entry 12345 of log {short} at 2026-01-15T12:00:00Z"), "{kind}");
    }
}

#[test]
fn an_annotation_in_which_anything_was_changed_is_refused() {
    use ErrorClass::{SigFormat, TlogRequired};
    let (log, other, signature) = (Log::new(), Log::new(), Signature::legacy());
    let body = signature.body("hashedrekord");
    let good = log.annotation(&body);
    let foreign = Signature::legacy().body("hashedrekord");
    for (pointer, new, expected) in [
        ("/Payload/integratedTime", json!(TIME + 1), TlogRequired),
        ("/Payload/logIndex", json!(12346), TlogRequired),
        ("/Payload/logID", json!(other.id().hex()), TlogRequired),
        ("/Payload/logID", json!(log.id().hex().to_uppercase() + "00"), TlogRequired),
        ("/Payload/logID", json!("no hex"), SigFormat),
        ("/Payload/body", json!(STANDARD.encode(&foreign)), TlogRequired),
        ("/Payload/body", json!("*"), SigFormat),
        ("/Payload/body", json!("e30"), SigFormat),
        ("/Payload/body", json!(""), TlogRequired),
        ("/Payload/integratedTime", json!(-1), SigFormat),
        ("/Payload/integratedTime", json!(TIME.to_string()), SigFormat),
        ("/Payload/logIndex", json!(12345.0), SigFormat),
        ("/Payload/logIndex", json!(MAX_NUMBER + 1), SigFormat),
        ("/SignedEntryTimestamp", json!(log.promise(&foreign, TIME, 12345)), TlogRequired),
        ("/SignedEntryTimestamp", json!(other.promise(&body, TIME, 12345)), TlogRequired),
        ("/SignedEntryTimestamp", json!(""), TlogRequired),
        ("/SignedEntryTimestamp", json!("_-"), SigFormat),
        ("/SignedEntryTimestamp", Value::Null, SigFormat),
        ("/Payload", Value::Null, SigFormat),
    ] {
        let verdict = judge_annotation(&log, &signature, &replaced(&good, pointer, new.clone()));
        assert_eq!(class(verdict), Some(expected), "{pointer} {new}");
    }
    let text = good.to_string();
    for (old, new) in [
        ("\"logIndex\":12345", "\"logIndex\":1,\"logIndex\":12345"),
        ("\"logIndex\":12345", "\"LogIndex\":12345"),
        ("\"logIndex\":12345", "\"x\":1,\"logIndex\":12345"),
        ("{\"Payload\"", "[{\"Payload\""),
    ] {
        assert!(text.contains(old), "{old} in {text}");
        let entry = Entry::from_annotation(&text.replacen(old, new, 1));
        assert_eq!(entry.unwrap_err().class, SigFormat, "{new}");
    }
}
