//! A server over content that is in no folder: the read side alone, in memory.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use autonomy_registry::Result;
use autonomy_registry::oci::{Descriptor, Digest, MediaType, Name, RepositoryPath, Tag};
use autonomy_registry::serve::{BlobReader, RegistryReader, ServedContent};
use autonomy_registry::store::{Body, ByteStream, Memory, PagedStore, Store};
use bytes::Bytes;
use futures_util::stream;
use reqwest::Method;

use crate::kit::asking::{Asking, code, header, image, json};
use crate::kit::serve_bed::Running;

/// Repositories in memory.
#[derive(Debug, Default)]
struct Archive {
    repositories: BTreeMap<RepositoryPath, Arc<Memory>>,
    /// Whether the bytes of what is opened are wrong.
    is_damaged: bool,
}

struct Bits(Bytes);

#[async_trait]
impl RegistryReader for Archive {
    async fn repositories(&self) -> Result<Vec<RepositoryPath>> {
        Ok(self.repositories.keys().cloned().collect())
    }

    async fn open(&self, path: &RepositoryPath) -> Result<Option<Arc<dyn PagedStore>>> {
        Ok(self.repositories.get(path).map(|store| Arc::clone(store) as _))
    }

    async fn open_blob(&self, path: &RepositoryPath, digest: &Digest) -> Result<Option<Box<dyn BlobReader>>> {
        let Some(store) = self.repositories.get(path) else { return Ok(None) };
        let Ok(root) = store.fetch(&Name::Digest(*digest)).await else { return Ok(None) };
        let mut bytes = root.bytes.to_vec();
        if self.is_damaged {
            bytes[0] ^= 1;
        }
        Ok(Some(Box::new(Bits(bytes.into()))))
    }
}

impl BlobReader for Bits {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn stream(&self, from: u64, length: u64, piece: u64) -> ByteStream {
        let part = self.0.slice(usize::try_from(from).unwrap()..usize::try_from(from + length).unwrap());
        let pieces: Vec<_> =
            part.chunks(usize::try_from(piece).unwrap()).map(|piece| Ok(part.slice_ref(piece))).collect();
        Box::pin(stream::iter(pieces))
    }
}

async fn put(store: &Memory, media_type: MediaType, bytes: &[u8], tags: &[&str]) -> Descriptor {
    let node = Descriptor::of(media_type, bytes);
    let tags: Vec<Tag> = tags.iter().map(|tag| tag.parse().unwrap()).collect();
    store.put(&node, &Body::bytes(node.clone(), bytes.to_vec()), &tags).await.unwrap();
    node
}

/// An archive with the repository `site/app`.
async fn archive(is_damaged: bool) -> (Archive, Arc<Memory>) {
    let (mut archive, store) = (Archive { is_damaged, ..Archive::default() }, Arc::<Memory>::default());
    archive.repositories.insert("site/app".parse().unwrap(), Arc::clone(&store));
    archive.repositories.insert("site/empty".parse().unwrap(), Arc::default());
    (archive, store)
}

async fn serve(archive: Archive) -> (Running, Asking) {
    let content = ServedContent::Reader(Arc::new(archive));
    let server = Running::start(Path::new("/nonexistent"), |options| options.content = content).await;
    let asking = Asking::at(&server.host, "site/app");
    (server, asking)
}

#[tokio::test]
async fn manifests_and_blobs_are_read_by_every_name_and_range() {
    let (archive, store) = archive(false).await;
    let layer: Vec<u8> = (0..700_000_u32).map(|n| (n % 253) as u8).collect();
    let blob = put(&store, MediaType::OCI_LAYER, &layer, &[]).await;
    let text = image(&[("config", b"{}")], "small", None);
    let small = put(&store, MediaType::OCI_MANIFEST, text.as_bytes(), &["v1"]).await;
    // Streamed, and not held in memory.
    let text = image(&[("config", b"{}")], &"long".repeat(20_000), None);
    let large = put(&store, MediaType::OCI_MANIFEST, text.as_bytes(), &["long"]).await;
    let (_server, asking) = serve(archive).await;

    for (name, node) in [("v1", &small), (&*small.digest.to_string(), &small), ("long", &large)] {
        let path = format!("manifests/{name}");
        for method in [Method::GET, Method::HEAD] {
            let answer = asking.send(method.clone(), &path, &[], b"").await;
            assert_eq!(answer.status(), 200, "{method} {name}");
            assert_eq!(header(&answer, "docker-content-digest"), node.digest.to_string());
            assert_eq!(header(&answer, "content-type"), node.media_type.to_string());
            assert_eq!(header(&answer, "content-length"), node.size.to_string());
            let bytes = answer.bytes().await.unwrap();
            assert!(if method == Method::GET { node.digest.matches(&bytes) } else { bytes.is_empty() }, "{name}");
        }
    }
    let path = format!("blobs/{}", blob.digest);
    assert_eq!(asking.get(&path).await.bytes().await.unwrap(), layer);
    let answer = asking.send(Method::HEAD, &path, &[], b"").await;
    assert_eq!((answer.status().as_u16(), header(&answer, "content-length")), (200, "700000".to_owned()));
    let answer = asking.send(Method::GET, &path, &[("range", "bytes=299999-599998")], b"").await;
    assert_eq!(
        (answer.status().as_u16(), header(&answer, "content-range")),
        (206, "bytes 299999-599998/700000".into())
    );
    assert_eq!(answer.bytes().await.unwrap(), layer[299_999..599_999]);
    assert_eq!(asking.send(Method::GET, &path, &[("range", "bytes=700000-")], b"").await.status(), 416);
    for (path, expected) in [
        ("manifests/absent".to_owned(), "MANIFEST_UNKNOWN"),
        (format!("blobs/{}", Digest::sha256(b"absent")), "BLOB_UNKNOWN"),
        (format!("/v2/site/other/blobs/{}", blob.digest), "NAME_UNKNOWN"),
        ("/v2/site/other/manifests/v1".to_owned(), "NAME_UNKNOWN"),
        ("/v2/site/other/tags/list".to_owned(), "NAME_UNKNOWN"),
        ("blobs/uploads/x".to_owned(), "BLOB_UPLOAD_UNKNOWN"),
    ] {
        assert_eq!(code(asking.get(&path).await).await, (404, expected.to_owned()), "{path}");
    }
}

#[tokio::test]
async fn lists_come_in_pages() {
    let (archive, store) = archive(false).await;
    let text = image(&[("config", b"{}")], "subject", None);
    let subject = put(&store, MediaType::OCI_MANIFEST, text.as_bytes(), &["c", "a", "b"]).await;
    let mut expected = Vec::new();
    for salt in ["sbom", "sig", "scan"] {
        let text = image(&[("config", b"{}")], salt, Some(&subject));
        expected.push(put(&store, MediaType::OCI_MANIFEST, text.as_bytes(), &[]).await.digest.to_string());
    }
    expected.sort();
    let (_server, asking) = serve(archive).await;

    let answer = asking.get("tags/list?n=2").await;
    assert_eq!(header(&answer, "link"), "</v2/site/app/tags/list?n=2&last=b>; rel=\"next\"");
    assert_eq!(json(answer).await["tags"], serde_json::json!(["a", "b"]));
    assert_eq!(json(asking.get("tags/list?n=2&last=b").await).await["tags"], serde_json::json!(["c"]));
    let answer = asking.get("/v2/_catalog?n=1").await;
    assert_eq!(header(&answer, "link"), "</v2/_catalog?n=1&last=site/app>; rel=\"next\"");
    assert_eq!(
        json(asking.get("/v2/_catalog").await).await["repositories"],
        serde_json::json!(["site/app", "site/empty"])
    );

    let list = async |query: &str| {
        let document = json(asking.get(&format!("referrers/{}{query}", subject.digest)).await).await;
        let nodes = document["manifests"].as_array().unwrap().clone();
        nodes.iter().map(|node| node["digest"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(list("").await, expected);
    assert_eq!(list(&format!("?last={}", expected[0])).await, expected[1..]);
    assert_eq!(list("?artifactType=application/x.sig").await.len(), 1);
    let answer = asking.get(&format!("/v2/site/other/referrers/{}", subject.digest)).await;
    assert_eq!((answer.status().as_u16(), json(answer).await["manifests"].clone()), (200, serde_json::json!([])));
}

#[tokio::test]
async fn a_server_without_a_write_side_refuses_every_write() {
    let (_server, asking) = serve(archive(false).await.0).await;
    let digest = Digest::sha256(b"");
    for (method, path) in [
        (Method::POST, "blobs/uploads/".to_owned()),
        (Method::POST, format!("blobs/uploads/?mount={digest}&from=site/app")),
        (Method::PATCH, "blobs/uploads/x".to_owned()),
        (Method::PUT, format!("blobs/uploads/x?digest={digest}")),
        (Method::DELETE, "blobs/uploads/x".to_owned()),
        (Method::DELETE, format!("blobs/{digest}")),
        (Method::PUT, "manifests/v1".to_owned()),
        (Method::DELETE, "manifests/v1".to_owned()),
    ] {
        let refused = code(asking.send(method.clone(), &path, &[], b"").await).await;
        assert_eq!(refused, (405, "UNSUPPORTED".to_owned()), "{method} {path}");
    }
    assert!(asking.get("/metrics").await.text().await.unwrap().contains("autonomy_registry_uploads 0"));
}

#[tokio::test]
async fn a_large_manifest_whose_bytes_are_wrong_is_not_sent() {
    let (archive, store) = archive(true).await;
    let text = image(&[("config", b"{}")], &"long".repeat(20_000), None);
    put(&store, MediaType::OCI_MANIFEST, text.as_bytes(), &["long"]).await;
    let (_server, asking) = serve(archive).await;
    assert_eq!(code(asking.get("manifests/long").await).await, (500, "UNKNOWN".to_owned()));
}
