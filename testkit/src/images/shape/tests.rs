//! The promises of the generator, for every shape.

use std::collections::BTreeSet;
use std::io::Write as _;

use autonomy_registry::copy::{Events, Job, Options, Target, copy};
use autonomy_registry::oci::{Manifest, Name};
use autonomy_registry::store::{Memory, read_manifest};
use flate2::Compression;
use futures_util::StreamExt;

use super::layer::PIECE;
use super::*;

fn all() -> Vec<(&'static str, Image, [u64; 2])> {
    // With the manifests and the blobs of each.
    vec![
        ("three_platforms", three_platforms(1, &[3_000, 20]), [4, 9]),
        ("docker_list", docker_list(2, &[3_000]), [4, 6]),
        ("single_manifest", single_manifest(3, &[1, 2, 3]), [1, 4]),
        ("with_attestations", with_attestations(4, &[300]), [7, 12]),
        ("artifact_with_empty_config", artifact_with_empty_config(5, 77), [1, 2]),
        ("nested_index", nested_index(6, &[300]), [6, 8]),
        ("shared_layer_everywhere", shared_layer_everywhere(7, 200_000), [4, 7]),
        ("zero_byte_blob", zero_byte_blob(8), [1, 2]),
        ("two_hundred_layers", two_hundred_layers(9), [1, 201]),
    ]
}

async fn drain(store: &dyn Store, node: &Descriptor, from: u64) -> Vec<u8> {
    let mut stream = store.open(node, from).await.unwrap();
    let mut all = Vec::new();
    while let Some(piece) = stream.next().await {
        all.extend_from_slice(&piece.unwrap());
    }
    all
}

#[tokio::test]
async fn every_shape_is_whole_and_the_specifications_own_reader_takes_it() {
    for (name, image, [manifests, blobs]) in all() {
        let store = Memory::default();
        let root = image.put(&store, &["v1".parse().unwrap()]).await;
        let tagged = store.resolve(&"v1".parse::<Tag>().map(Name::Tag).unwrap()).await.unwrap();
        assert_eq!(tagged.digest, root.digest);

        let (mut unread, mut seen) = (vec![root], BTreeSet::new());
        while let Some(node) = unread.pop() {
            if !seen.insert(node.digest) {
                continue;
            }
            if !node.is_manifest() {
                let bytes = drain(&store, &node, 0).await;
                assert_eq!((bytes.len() as u64, Digest::sha256(&bytes)), (node.size, node.digest), "{name}");
                continue;
            }
            let bytes = read_manifest(&store, &node).await.unwrap();
            if node.media_type.is_index() {
                oci_spec::image::ImageIndex::from_reader(&bytes[..]).unwrap();
            } else {
                let theirs = oci_spec::image::ImageManifest::from_reader(&bytes[..]).unwrap();
                if theirs.config().media_type() == &oci_spec::image::MediaType::ImageConfig {
                    let config = image.source().open(&of(theirs.config()), 0).await.unwrap().next().await.unwrap();
                    let config = oci_spec::image::ImageConfiguration::from_reader(&config.unwrap()[..]).unwrap();
                    assert_eq!(config.rootfs().diff_ids().len(), theirs.layers().len(), "{name}");
                }
            }
            unread.extend(Manifest::parse(&bytes, &node.media_type).unwrap().children().cloned());
        }
        let all: BTreeSet<_> = image.nodes.iter().map(|node| node.digest).collect();
        assert_eq!(seen, all, "{name}: what was made is what the root refers to");
        let count = image.nodes.iter().filter(|node| node.is_manifest()).count() as u64;
        assert_eq!([count, seen.len() as u64 - count], [manifests, blobs], "{name}");
    }
}

fn of(descriptor: &oci_spec::image::Descriptor) -> Descriptor {
    let media_type = MediaType::new(descriptor.media_type().as_ref());
    Descriptor::new(media_type, descriptor.digest().to_string().parse().unwrap(), descriptor.size())
}

#[tokio::test]
async fn the_engine_copies_every_shape_from_the_generator_itself() {
    for (name, image, [manifests, blobs]) in all() {
        let sink = Arc::new(Memory::default());
        let target = Target { node: image.root.clone(), bytes: None, tags: vec!["v1".parse().unwrap()], former: None };
        let job = Job::new(image.source(), Arc::clone(&sink) as _, vec![target]);
        let report = copy(&job, &Options::default(), &Events::none()).await.unwrap();
        assert_eq!([report.manifests, report.blobs, report.bytes_moved], [manifests, blobs, image.size()], "{name}");
    }
}

#[test]
fn the_same_seed_makes_the_same_image_and_another_seed_shares_no_layer() {
    let [a, b, c] = [1, 1, 2].map(|seed| three_platforms(seed, &[1_000, 1_000]));
    assert_eq!(a.root, b.root);
    let layers = |image: &Image| -> BTreeSet<_> {
        let layers = image.nodes.iter().filter(|node| node.media_type == MediaType::OCI_LAYER_GZIP);
        layers.map(|node| node.digest).collect()
    };
    assert_eq!(layers(&a).len(), 6, "no two platforms share one either");
    assert!(layers(&a).is_disjoint(&layers(&c)));
}

#[tokio::test]
async fn a_layer_is_an_archive_that_unpacks_to_what_the_configuration_says() {
    let image = single_manifest(1, &[300_000]);
    let [layer, config, _] = &image.nodes[..] else { panic!("{:?}", image.nodes) };
    let (source, mut archive) = (image.source(), Vec::new());
    let bytes = drain(source.as_ref(), layer, 0).await;
    flate2::read::GzDecoder::new(&bytes[..]).read_to_end(&mut archive).unwrap();
    let config: Value = serde_json::from_slice(&drain(source.as_ref(), config, 0).await).unwrap();
    assert_eq!(config["rootfs"]["diff_ids"], json!([Digest::sha256(&archive)]));
    let sizes: Vec<_> = tar::Archive::new(&archive[..])
        .entries()
        .unwrap()
        .map(|entry| entry.unwrap().header().size().unwrap())
        .collect();
    assert_eq!(sizes, [300_000]);

    let mut packed = flate2::write::GzEncoder::new(Vec::new(), Compression::best());
    packed.write_all(&bytes).unwrap();
    assert!(packed.finish().unwrap().len() > 299_000, "noise does not compress");
}

#[tokio::test]
async fn a_layer_can_be_opened_anywhere() {
    let image = single_manifest(1, &[300_000]);
    let (layer, source) = (&image.nodes[0], image.source());
    let whole = drain(source.as_ref(), layer, 0).await;
    for from in [1, 10, PIECE as u64, 299_999, layer.size - 1, layer.size] {
        assert_eq!(drain(source.as_ref(), layer, from).await, whole[from as usize..], "from {from}");
    }
    let first = source.open(layer, 0).await.unwrap().next().await.unwrap().unwrap();
    assert_eq!(first.len(), PIECE, "it comes in pieces");
    let config = &image.nodes[1];
    assert_eq!(drain(source.as_ref(), config, config.size).await, b"");
}
