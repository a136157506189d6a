use super::*;
use crate::oci::{Manifest, MediaType};
use serde_json::json;

fn layer(media_type: &str, text: &str, signature: &str) -> Descriptor {
    let annotations = BTreeMap::from([(simple_signing::SIGNATURE.to_owned(), signature.to_owned())]);
    Descriptor { annotations, ..Descriptor::of(MediaType::new(media_type), text.as_bytes()) }
}

fn signature(number: usize) -> Descriptor {
    layer(simple_signing::MEDIA_TYPE, "one payload", &number.to_string())
}

fn list(numbers: impl IntoIterator<Item = usize>) -> List {
    List::made(&numbers.into_iter().map(signature).collect::<Vec<_>>())
}

fn root(layers: &[Descriptor]) -> Root {
    let bytes = Bytes::from(json!({"schemaVersion": 2, "layers": layers}).to_string());
    Root { node: Descriptor::of(MediaType::OCI_MANIFEST, &bytes), bytes }
}

fn made(union: Union) -> (Vec<Descriptor>, usize) {
    match union {
        Union::Made { list, left_out } => (list.layers, left_out),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_list_that_holds_the_other_stays_as_it_is() {
    let unite = |brought: &List, own: &List| union(Keeps::Signatures, brought, own, None, First::Brought);
    assert!(matches!(unite(&list([1, 2]), &list([2])), Union::Brought));
    assert!(matches!(unite(&list([1, 2]), &list([2, 1])), Union::Brought), "equal but for their order");
    assert!(matches!(unite(&list([1]), &list([2, 1])), Union::Held));
    let (layers, left_out) = made(unite(&list([1, 2]), &list([3, 1])));
    assert_eq!((layers, left_out), ([1, 2, 3].map(signature).to_vec(), 0));
}

#[test]
fn a_list_that_is_made_has_the_form_that_cosign_writes() {
    let Union::Made { list, .. } = union(Keeps::Signatures, &list([1]), &list([2]), None, First::Brought) else {
        panic!()
    };
    let (node, bytes) = list.config.clone().unwrap();
    let config: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(config["history"].as_array().unwrap().len(), 2, "one a layer");
    assert_eq!(config["rootfs"]["diff_ids"].as_array().unwrap().len(), 2, "one a layer");
    let manifest = Manifest::parse(&list.bytes, &list.node.media_type).unwrap();
    assert_eq!(manifest.config.unwrap().digest, node.digest);
    assert_eq!(manifest.layers, list.layers, "with their annotations");
}

#[test]
fn where_there_is_no_room_what_verifies_and_what_was_there_is_kept() {
    let brought = list(0..600);
    let own = list(1000..1600);
    let (layers, left_out) = made(union(Keeps::Signatures, &brought, &own, Some(&signature(599)), First::Brought));
    assert_eq!((layers.len(), left_out), (MAX_LISTED_SIGNATURES, 200));
    assert_eq!(layers[0], signature(599), "what was verified");
    assert!((1000..1600).all(|number| layers.contains(&signature(number))), "what was there");
    let own = list(1000..1000 + MAX_LISTED_SIGNATURES);
    let (layers, left_out) = made(union(Keeps::Signatures, &list([1]), &own, Some(&signature(1)), First::Brought));
    assert_eq!((layers.len(), left_out), (MAX_LISTED_SIGNATURES, 1));
    assert_eq!(layers[0], signature(1), "or the destination would not verify");

    let long =
        |number: usize| layer(simple_signing::MEDIA_TYPE, "one payload", &format!("{number}{}", "x".repeat(1 << 20)));
    let brought = List::made(&[long(1), long(2)]);
    let (layers, left_out) = made(union(
        Keeps::Signatures,
        &brought,
        &List::made(&[long(3), long(4), long(5)]),
        Some(&long(2)),
        First::Brought,
    ));
    assert_eq!((layers, left_out), (vec![long(2), long(3), long(4)], 2), "no more than a manifest's bytes");
}

#[test]
fn of_more_than_are_read_the_verified_one_comes_first_and_then_what_was_there() {
    let unite = |brought: &List, own: &List, proof: usize| {
        union(Keeps::Signatures, brought, own, Some(&signature(proof)), First::Brought)
    };
    let own = list(1000..1000 + MAX_SIGNATURES);
    let (layers, left_out) = made(unite(&list([1, 2]), &own, 2));
    let expected: Vec<_> = [2].into_iter().chain(1000..1000 + MAX_SIGNATURES).chain([1]).map(signature).collect();
    assert_eq!((layers, left_out), (expected, 0));
    // The list holds all, but the proof is not among the entries that every verifier reads.
    let own = list((1000..1000 + MAX_SIGNATURES).chain([1]));
    let (layers, left_out) = made(unite(&list([1]), &own, 1));
    assert_eq!((layers.len(), left_out, &layers[0]), (MAX_SIGNATURES + 1, 0, &signature(1)));
    let own = list((1001..1000 + MAX_SIGNATURES).chain([1, 2]));
    assert!(matches!(unite(&list([1]), &own, 1), Union::Held), "the last one that is read");
}

#[test]
fn only_layers_that_belong_under_a_tag_are_read() {
    let (image, dsse) = (layer("application/vnd.oci.image.layer.v1.tar+gzip", "a", "1"), layer(ATTESTATION, "b", ""));
    for (keeps, right) in [(Keeps::Signatures, signature(1)), (Keeps::Attestations, dsse.clone())] {
        let other = if keeps == Keeps::Signatures { &dsse } else { &signature(2) };
        for wrong in [&image, other, &layer("text/plain", "c", "")] {
            assert!(List::read(keeps, &root(std::slice::from_ref(wrong))).is_none(), "{wrong:?}");
            let mixed = List::read(keeps, &root(&[wrong.clone(), right.clone()])).unwrap();
            assert_eq!((mixed.layers.len(), mixed.strange), (1, 1));
            let pure = mixed.pure();
            assert_eq!((&pure.layers, pure.strange), (&vec![right.clone()], 0));
            let manifest = Manifest::parse(&pure.bytes, &pure.node.media_type).unwrap();
            assert_eq!(manifest.layers, pure.layers);
        }
        assert!(List::read(keeps, &root(&[])).is_none());
        let index = Bytes::from_static(br#"{"manifests":[]}"#);
        let index = Root { node: Descriptor::of(MediaType::OCI_INDEX, &index), bytes: index };
        assert!(List::read(keeps, &index).is_none());
    }
    for right in ["text/spdx", "text/spdx+json", "application/vnd.cyclonedx+xml", "application/spdx+json", "x/y"] {
        assert!(List::read(Keeps::Sbom, &root(&[layer(right, "", "")])).is_some(), "{right}");
    }
    for wrong in [
        "application/vnd.oci.image.layer.v1.tar",
        "application/vnd.docker.image.rootfs.diff.tar.gzip",
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
        "application/vnd.oci.image.index.v1+json",
    ] {
        assert!(List::read(Keeps::Sbom, &root(&[layer(wrong, "", "")])).is_none(), "{wrong}");
    }
}

#[test]
fn a_tag_tells_what_is_kept_under_it() {
    for (text, expected) in [
        ("sha256-00.sig", Some(Keeps::Signatures)),
        ("sha256-00.att", Some(Keeps::Attestations)),
        ("sha256-00.sbom", Some(Keeps::Sbom)),
        ("sha256-00", None),
        ("v1.2", None),
    ] {
        assert_eq!(Keeps::under(&text.parse().unwrap()), expected, "{text}");
    }
}
