use super::*;

const KEY_A: &[u8] = include_bytes!("../../../tests/verify-vectors/keys/keyA.pub");
const DIGEST: &str = "sha256:cff63a9b0b189864419c222c2b65bfcf6f004ed2cd3c8d78fe8eca9dee6c07de";
const SIGNATURE: &str =
    "MEQCIF9aOTybf/hxF8+F54Msx9Kw8LbV2Uc9mk6UMKhbcvCsAiAYMWeTldd3xjR36p4YoDOxJ1xuWLw7a7sU9ppMnSCriA==";

fn key() -> PublicKey {
    PublicKey::from_pem(KEY_A).unwrap()
}

fn golden() -> String {
    let statement = statement(&DIGEST.parse().unwrap(), Some("2026-01-15T12:00:00Z".parse().unwrap()));
    String::from_utf8(build(&key(), &statement, &STANDARD.decode(SIGNATURE).unwrap())).unwrap()
}

fn refused(text: &str) -> ErrorClass {
    Envelope::parse(text.as_bytes()).unwrap_err().class
}

#[test]
fn the_encoding_is_that_of_the_specification() {
    let expected = b"DSSEv1 29 http://example.com/HelloWorld 11 hello world";
    assert_eq!(encode("http://example.com/HelloWorld", b"hello world"), expected);
}

#[test]
fn what_is_written_is_what_cosign_writes() {
    let bytes = golden();
    let expected = "sha256:1bcaca66f91ccc34e39ef0741f0448c4f7d5c218fca0da393c50d70a7df93ff9";
    assert_eq!(Digest::sha256(bytes.as_bytes()).to_string(), expected);
    let envelope = Envelope::parse(bytes.as_bytes()).unwrap();
    assert_eq!(envelope.payload.len(), 273);
    assert!(envelope.signer(&[key()]).is_some());
    let claim = envelope.read(&DIGEST.parse().unwrap()).unwrap();
    assert_eq!(claim.signed_at, Some("2026-01-15T12:00:00Z".into()));
}

#[test]
fn every_spelling_that_protobuf_allows_is_read() {
    let golden = golden();
    for (old, new) in [
        ("verificationMaterial", "verification_material"),
        ("payloadType", "payload_type"),
        ("publicKey", "public_key"),
        ("\"signatures\"", "\n \"signatures\" "),
        ("{\"sig\"", "{\"keyid\":\"whatever\",\"sig\""),
        ("{\"publicKey\"", "{\"tlogEntries\":[],\"certificate\":null,\"publicKey\""),
        (MEDIA_TYPE, OTHER_MEDIA_TYPE),
        ("iA==", "iA"),
    ] {
        assert!(golden.contains(old), "{old}");
        let envelope = Envelope::parse(golden.replacen(old, new, 1).as_bytes()).unwrap();
        assert!(envelope.signer(&[key()]).is_some(), "{new}");
    }
    let (head, tail) = golden.split_at(golden.find("\"sig\"").unwrap());
    let url_safe = head.to_owned() + &tail.replace('/', "_").replace('+', "-");
    assert!(Envelope::parse(url_safe.as_bytes()).unwrap().signer(&[key()]).is_some());
}

#[test]
fn what_could_be_read_in_two_ways_is_refused() {
    let golden = golden();
    for (old, new) in [
        ("\"mediaType\"", "\"MediaType\""),
        ("{\"mediaType\"", "{\"media_type\":\"x\",\"mediaType\""),
        ("{\"mediaType\"", "{\"x\":1,\"mediaType\""),
        ("\"payloadType\"", "\"payload_type\":\"application/vnd.in-toto+json\",\"payloadType\""),
        ("{\"hint\"", "{\"x\":1,\"hint\""),
        ("{\"sig\"", "{\"x\":1,\"sig\""),
        ("{\"publicKey\"", "{\"certificate\":{},\"publicKey\""),
        ("{\"publicKey\"", "{\"tlogEntries\":[{}],\"publicKey\""),
        ("{\"publicKey\"", "{\"tlogEntries\":{},\"publicKey\""),
        ("\"dsseEnvelope\"", "\"messageSignature\":{},\"dsseEnvelope\""),
        ("\"dsseEnvelope\"", "\"messageSignature\""),
        ("v0.3", "v0.2"),
        ("v0.3", "v0.9"),
        ("iA==", "i!=="),
        ("[{\"sig\"", "[{},{\"sig\""),
        ("\"signatures\":[", "\"signatures\":[],\"signatures\":["),
    ] {
        assert!(golden.contains(old), "{old}");
        assert_eq!(refused(&golden.replacen(old, new, 1)), ErrorClass::SigFormat, "{new}");
    }
    assert_eq!(refused(&"[".repeat(1000)), ErrorClass::SigFormat);
    let entries = vec!["{\"inclusionProof\":{}}"; 33].join(",");
    let many = golden.replacen("{\"publicKey\"", &format!("{{\"tlogEntries\":[{entries}],\"publicKey\""), 1);
    assert_eq!(refused(&many), ErrorClass::SigLimit);
}

#[test]
fn a_certificate_does_not_stand_for_a_key() {
    let text = golden().replace("\"publicKey\":{\"hint\"", "\"certificate\":{\"rawBytes\"");
    assert!(Envelope::parse(text.as_bytes()).unwrap().signer(&[key()]).is_none(), "the signature itself is good");
    let none = golden().replace("{\"publicKey\":{\"hint\":\"3S/x7x+x9jlI9fMkdhlE8fwKN+myiP8Nkwea5hQRNAA=\"}}", "null");
    assert!(Envelope::parse(none.as_bytes()).unwrap().signer(&[key()]).is_none());
}

#[test]
fn only_a_statement_about_the_digest_counts() {
    let digest: Digest = DIGEST.parse().unwrap();
    let read = |payload: String| {
        Envelope {
            payload_type: PAYLOAD_TYPE.into(),
            payload: payload.into(),
            signature: vec![],
            is_by_key: true,
            entries: vec![],
        }
        .read(&digest)
        .map_err(|failure| failure.class)
    };
    let good = String::from_utf8(statement(&digest, None)).unwrap();
    assert_eq!(read(good.clone()), Ok(Claim::default()));
    assert_eq!(read(good.replace("Statement/v1", "Statement/v0.1")), Err(ErrorClass::SigPayloadType));
    assert_eq!(read(good.replace("/sign/v1", "/attest/v1")), Err(ErrorClass::SigPayloadType));
    assert_eq!(read(good.replace("_type", "_Type")), Err(ErrorClass::SigPayloadType));
    assert_eq!(read(good.replace("cff6", "CFF6")), Err(ErrorClass::SigDigestMismatch));
    assert_eq!(read(good.replace("sha256", "sha512")), Err(ErrorClass::SigDigestMismatch));
    assert_eq!(read(good.replace("\"predicate\"", "\"_type\"")), Err(ErrorClass::SigFormat));
    assert_eq!(read(good.replace("[{\"digest\"", "[{},{\"digest\"")), Ok(Claim::default()), "any subject will do");
    let many = format!("[{}{{\"digest\"", "{},".repeat(1024));
    assert_eq!(read(good.replace("[{\"digest\"", &many)), Err(ErrorClass::SigLimit));
    let digests: String = (0..32).map(|n| format!("\"d{n}\":\"\",")).collect();
    assert_eq!(read(good.replace("{\"sha256\"", &format!("{{{digests}\"sha256\""))), Err(ErrorClass::SigLimit));
}

#[test]
fn a_statement_under_another_payload_type_is_no_image_signature() {
    let statement = statement(&DIGEST.parse().unwrap(), None);
    let payload_type = "application/json".to_owned();
    let envelope = Envelope { payload_type, payload: statement, signature: vec![], is_by_key: true, entries: vec![] };
    assert_eq!(envelope.read(&DIGEST.parse().unwrap()).unwrap_err().class, ErrorClass::SigPayloadType);
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
        let _ = Envelope::parse(&bytes);
    }

    #[test]
    fn a_changed_byte_never_signs_something_else(at in 0usize..715, byte in proptest::num::u8::ANY) {
        let mut bytes = golden().into_bytes();
        let before = Envelope::parse(&bytes).unwrap();
        bytes[at] = byte;
        if let Ok(after) = Envelope::parse(&bytes) && after.signer(&[key()]).is_some() {
            proptest::prop_assert_eq!((after.payload_type, after.payload), (before.payload_type, before.payload));
        }
    }
}
