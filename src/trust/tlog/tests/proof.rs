//! Entries of bundles: a valid place in a tree is trusted, and any change to it is detected.

use super::*;

#[test]
fn a_place_in_a_tree_of_any_size_is_believed() {
    let (log, signature) = (Log::new(), Signature::enveloped());
    for size in [1, 2, 3, 7, 8] {
        for index in 0..size {
            for kind in ["dsse", "intoto"] {
                let entry = log.entry(&signature.body(kind), index, size);
                let recorded = judge(&[&log], &signature, &[entry]).unwrap().unwrap();
                assert_eq!(
                    (recorded.index, recorded.time.unwrap().as_second() as u64),
                    (12345, TIME),
                    "{index} of {size}"
                );
            }
            let entry = log.second_entry(&signature.body("second"), index, size);
            let recorded = judge(&[&log], &signature, &[entry]).unwrap().unwrap();
            assert_eq!((recorded.index, recorded.time), (index as u64, None), "{index} of {size}");
        }
    }
}

#[test]
fn a_bundle_entry_in_which_anything_was_changed_is_refused() {
    use ErrorClass::{SigFormat, SigLimit, TlogRequired};
    let (log, other, signature) = (Log::new(), Log::new(), Signature::enveloped());
    let body = signature.body("dsse");
    let good = log.entry(&body, 2, 7);
    let foreign = log.entry(&Signature::enveloped().body("dsse"), 2, 7);
    let root: Hash =
        protojson::decode(good["inclusionProof"]["rootHash"].as_str().unwrap()).unwrap().try_into().unwrap();
    let hashes = good["inclusionProof"]["hashes"].as_array().unwrap().clone();
    let checkpoint = "/inclusionProof/checkpoint/envelope";
    for (pointer, new, expected) in [
        ("/logIndex", json!("12346"), TlogRequired),
        ("/logIndex", json!("-12345"), SigFormat),
        ("/logIndex", json!("+12345"), SigFormat),
        ("/logIndex", json!(1.5), SigFormat),
        ("/integratedTime", json!((TIME + 1).to_string()), TlogRequired),
        ("/integratedTime", json!("99999999999999999999"), SigFormat),
        ("/logId/keyId", json!(STANDARD.encode(other.id().as_bytes())), TlogRequired),
        ("/logId/keyId", json!(""), TlogRequired),
        ("/inclusionPromise/signedEntryTimestamp", json!(other.promise(&body, TIME, 12345)), TlogRequired),
        ("/inclusionPromise", Value::Null, TlogRequired),
        ("/inclusionPromise/signedEntryTimestamp", json!("*"), SigFormat),
        ("/canonicalizedBody", foreign["canonicalizedBody"].clone(), TlogRequired),
        ("/canonicalizedBody", json!("!"), SigFormat),
        ("/inclusionProof/logIndex", json!("3"), TlogRequired),
        ("/inclusionProof/logIndex", json!("7"), TlogRequired),
        ("/inclusionProof/treeSize", json!("8"), TlogRequired),
        ("/inclusionProof/treeSize", json!("0"), TlogRequired),
        ("/inclusionProof/rootHash", foreign["inclusionProof"]["rootHash"].clone(), TlogRequired),
        ("/inclusionProof/rootHash", json!(STANDARD.encode([0; 31])), SigFormat),
        ("/inclusionProof/hashes", json!(hashes[1..]), TlogRequired),
        ("/inclusionProof/hashes", json!([&hashes[..], &hashes[..1]].concat()), TlogRequired),
        ("/inclusionProof/hashes", json!([]), TlogRequired),
        ("/inclusionProof/hashes/0", json!(STANDARD.encode([0; 32])), TlogRequired),
        ("/inclusionProof/hashes/0", json!(STANDARD.encode([0; 33])), SigFormat),
        ("/inclusionProof/hashes", json!(vec![hashes[0].clone(); MAX_PATH + 1]), SigLimit),
        ("/inclusionProof", foreign["inclusionProof"].clone(), TlogRequired),
        (checkpoint, json!(log.checkpoint(8, root)), TlogRequired),
        (checkpoint, json!(log.checkpoint(7, [0; 32])), TlogRequired),
        (checkpoint, json!(other.checkpoint(7, root)), TlogRequired),
        (checkpoint, json!(""), SigFormat),
        ("/inclusionProof/checkpoint", Value::Null, SigFormat),
        ("/inclusionProof", Value::Null, SigFormat),
        ("/kindVersion", Value::Null, SigFormat),
    ] {
        assert_ne!(good.pointer(pointer), Some(&new), "{pointer}");
        let verdict = judge(&[&log], &signature, &[replaced(&good, pointer, new.clone())]);
        assert_eq!(class(verdict), Some(expected), "{pointer} {new}");
    }
    let long = log.entry(&[body, vec![b' '; body::MAX_BYTES]].concat(), 0, 1);
    assert_eq!(class(judge(&[&log], &signature, &[long])), Some(SigLimit));
    let annotation = format!("{}{{}}", " ".repeat(MAX_ANNOTATION_BYTES));
    assert_eq!(Entry::from_annotation(&annotation).unwrap_err().class, SigLimit);
}

#[test]
fn without_a_promise_the_number_is_that_in_the_tree() {
    let (log, signature) = (Log::new(), Signature::enveloped());
    let good = log.second_entry(&signature.body("second"), 2, 7);
    assert_eq!(class(judge(&[&log], &signature, &[replaced(&good, "/logIndex", "3")])), Some(ErrorClass::TlogRequired));
    // Nothing signs the time then, so it is not reported.
    let mut timed = good;
    timed["integratedTime"] = json!("1");
    assert_eq!(judge(&[&log], &signature, &[timed]).unwrap().unwrap().time, None);
}
