use super::*;

/// The worked example of contract §7.
const CANONICAL: &str = include_str!("../../../tests/verify-vectors/lock.canonical.json");
const SEALED: &[u8] = include_bytes!("../../../tests/verify-vectors/lock.json");
const EXAMPLE: &str = "blake3:3c6442f1a9a27b312f5899fd64aeb21a1a1d79675be0e5e436e3dfc220e23d3d";

fn with(old: &str, new: &str) -> Result<Lock, LockError> {
    let text = std::str::from_utf8(SEALED).unwrap();
    assert!(text.contains(old), "{old}");
    Lock::parse(text.replacen(old, new, 1).as_bytes())
}

#[test]
fn the_worked_example_comes_out_to_the_byte() {
    let lock = Lock::parse(SEALED).unwrap();
    assert_eq!(CANONICAL.len(), 513);
    assert_eq!(lock.canonical(Escapes::Go), CANONICAL.as_bytes());
    assert_eq!((lock.fingerprint(), lock.check_fingerprint()), (EXAMPLE, Ok(Escapes::Go)));
}

#[test]
fn a_new_lock_is_the_worked_example_again() {
    let read = Lock::parse(SEALED).unwrap();
    let made = Lock::new(read.agent_artifact().clone(), read.policy_bundle().clone(), read.inputs().clone());
    assert_eq!(made.fingerprint(), EXAMPLE);
    assert_eq!(Lock::parse(&made.to_bytes()).unwrap(), read);
}

#[test]
fn the_hash_of_either_way_of_escaping_is_taken_and_the_escaped_one_written() {
    let text = "a<b>&\u{2028}\u{2029}é\u{7f}";
    let read = Lock::parse(SEALED).unwrap();
    let pin = Pin { reference: text.into(), ..read.agent_artifact().clone() };
    let made = Lock::new(pin, read.policy_bundle().clone(), read.inputs().clone());
    let go = String::from_utf8(made.canonical(Escapes::Go)).unwrap();
    assert!(go.contains(r"a\u003cb\u003e\u0026\u2028\u2029é"), "{go}");
    assert_eq!(made.check_fingerprint(), Ok(Escapes::Go));

    let mut plain = made.clone();
    plain.fingerprint = fingerprint(&made.canonical(Escapes::Plain));
    assert_ne!(plain.fingerprint, made.fingerprint);
    assert_eq!(plain.check_fingerprint(), Ok(Escapes::Plain));
}

#[test]
fn any_change_and_any_other_hash_function_is_noticed() {
    let changed = with("robot-behavior:1.2.3", "robot-behavior:1.2.4").unwrap();
    assert!(matches!(changed.check_fingerprint(), Err(FingerprintError::Mismatch { .. })));
    let added = with("{\n", "{\n\"new\": 1,\n").unwrap();
    assert!(matches!(added.check_fingerprint(), Err(FingerprintError::Mismatch { .. })), "unknown keys are hashed");
    let sha256 = with("blake3:3c64", "sha256:3c64").unwrap();
    assert!(matches!(sha256.check_fingerprint(), Err(FingerprintError::Algorithm(_))));
    let bare = with("blake3:3c64", "3c64").unwrap();
    assert!(matches!(bare.check_fingerprint(), Err(FingerprintError::Algorithm(_))));
}

#[test]
fn unknown_keys_are_sorted_and_numbers_written_as_go_does() {
    let extra = r#""z": {"b": [1.0, 1e3, 0.7, -0.0, 1e21, 1e-7, 18446744073709551615, 123456789.125], "a": null, "é": true, "B": false},"#;
    let lock = with("{\n", &format!("{{{extra}")).unwrap();
    let canonical = String::from_utf8(lock.canonical(Escapes::Go)).unwrap();
    let expected =
        r#""z":{"B":false,"a":null,"b":[1,1000,0.7,-0,1e+21,1e-7,18446744073709551615,123456789.125],"é":true}}"#;
    assert!(canonical.ends_with(expected), "{canonical}");
}

#[test]
fn what_is_no_lock_is_refused_with_the_field_named() {
    assert!(matches!(with("\"inputs\"", "\"agent_artifact\""), Err(LockError::Json(why)) if why.contains("duplicate")));
    assert!(matches!(Lock::parse(b"[]"), Err(LockError::Json(_))));
    for (old, new, field) in [
        ("sha256:cff6", "sha256:CFF6", "agent_artifact.digest"),
        ("sha256:cff6", "blake3:cff6", "agent_artifact.digest"),
        ("sha256:8234", "8234", "policy_bundle.digest"),
        ("blake3:c7d4", "md5:c7d4", "inputs.tool_inputs_hash"),
        ("sha256:cf07", "sha256:cf0", "inputs.prompt_hash"),
        ("\"ref\"", "\"Ref\"", "agent_artifact.ref"),
        ("behavioral_", "Behavioral_", "behavioral_fingerprint"),
    ] {
        match with(old, new) {
            Err(LockError::Field { field: named, .. }) => assert_eq!(named, field),
            other => panic!("{old} -> {new}: {other:?}"),
        }
    }
    let sha512 = with(
        "sha256:cff63a9b0b189864419c222c2b65bfcf6f004ed2cd3c8d78fe8eca9dee6c07de",
        &format!("sha512:{}", "a".repeat(128)),
    );
    assert!(sha512.is_err(), "only sha256 pins");
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
        let _ = Lock::parse(&bytes);
    }

    #[test]
    fn a_sealed_lock_survives_being_written_and_read(reference in "\\PC{0,40}", prompt in "[0-9a-f]{64}") {
        let read = Lock::parse(SEALED).unwrap();
        let inputs = Inputs { prompt_hash: format!("blake3:{prompt}"), ..read.inputs().clone() };
        let pin = Pin { reference, ..read.policy_bundle().clone() };
        let made = Lock::new(read.agent_artifact().clone(), pin, inputs);
        let again = Lock::parse(&made.to_bytes()).unwrap();
        proptest::prop_assert_eq!(again.check_fingerprint(), Ok(Escapes::Go));
        proptest::prop_assert_eq!(again, made);
    }

    #[test]
    fn floats_are_written_shortest_and_read_back_as_they_were(value in proptest::num::f64::NORMAL) {
        proptest::prop_assert_eq!(go_float(value).parse::<f64>().unwrap().to_bits(), value.to_bits());
    }
}
