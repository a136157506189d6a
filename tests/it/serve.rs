//! The embedded server, asked as clients ask it.

use std::io::Write as _;
use std::time::Duration;

use autonomy_registry::oci::{Algorithm, Descriptor, Digest, Hasher, MediaType, Name};
use autonomy_registry::serve::testkit::Testbed;
use autonomy_registry::serve::{Behaviour, Options, Server};
use autonomy_registry::store::{Layout, Listing, Store, Want};
use reqwest::{Client, Method, Response};

/// A client without a single certificate: everything here is plain HTTP.
pub(crate) fn client() -> Client {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    Client::builder().tls_certs_only([]).build().unwrap()
}

/// One repository, asked by hand.
pub(crate) struct Asking {
    client: Client,
    base: String,
    name: String,
}

impl Asking {
    pub(crate) fn of(server: &Testbed, name: &str) -> Self {
        Self { client: client(), base: format!("http://{}", server.host()), name: name.to_owned() }
    }

    pub(crate) async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
        self.try_send(method, path, headers, body).await.unwrap()
    }

    pub(crate) async fn try_send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> reqwest::Result<Response> {
        let url = if path.starts_with('/') {
            format!("{}{path}", self.base)
        } else {
            format!("{}/v2/{}/{path}", self.base, self.name)
        };
        let request = headers.iter().fold(self.client.request(method, url), |request, (k, v)| request.header(*k, *v));
        request.body(body.to_vec()).send().await
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        self.send(Method::GET, path, &[], b"").await
    }

    pub(crate) async fn begin(&self) -> String {
        let answer = self.send(Method::POST, "blobs/uploads/", &[], b"").await;
        assert_eq!(answer.status(), 202);
        header(&answer, "location")
    }

    pub(crate) async fn push_blob(&self, bytes: &[u8]) -> Digest {
        let (location, digest) = (self.begin().await, Digest::sha256(bytes));
        let answer = self.send(Method::PUT, &format!("{location}?digest={digest}"), &[], bytes).await;
        assert_eq!(answer.status(), 201);
        digest
    }

    pub(crate) async fn put_manifest(&self, reference: &str, media_type: &MediaType, text: &str) -> Response {
        let path = format!("manifests/{reference}");
        self.send(Method::PUT, &path, &[("content-type", media_type.as_str())], text.as_bytes()).await
    }

    /// An image whose blobs are there.
    pub(crate) async fn push_image(&self, tag: &str, salt: &str, subject: Option<&Descriptor>) -> Descriptor {
        let text = image(&[("config", format!("{{\"{salt}\":0}}").as_bytes())], salt, subject);
        self.push_blob(format!("{{\"{salt}\":0}}").as_bytes()).await;
        let node = Descriptor::of(MediaType::OCI_MANIFEST, text.as_bytes());
        let reference = if tag.is_empty() { node.digest.to_string() } else { tag.to_owned() };
        let answer = self.put_manifest(&reference, &MediaType::OCI_MANIFEST, &text).await;
        assert_eq!(answer.status(), 201);
        node
    }
}

pub(crate) fn image(blobs: &[(&str, &[u8])], salt: &str, subject: Option<&Descriptor>) -> String {
    let nodes: Vec<_> = blobs.iter().map(|(_, bytes)| Descriptor::of(MediaType::OCI_CONFIG, bytes)).collect();
    let mut manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST, "config": nodes[0], "layers": nodes[1..],
        "artifactType": format!("application/x.{salt}"), "annotations": {"salt": salt},
    });
    if let Some(subject) = subject {
        manifest["subject"] = serde_json::to_value(subject).unwrap();
    }
    manifest.to_string()
}

pub(crate) fn header(answer: &Response, name: &str) -> String {
    answer.headers().get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
}

async fn code(answer: Response) -> (u16, String) {
    let status = answer.status().as_u16();
    let document: serde_json::Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
    (status, document["errors"][0]["code"].as_str().unwrap().to_owned())
}

async fn json(answer: Response) -> serde_json::Value {
    serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap()
}

#[tokio::test]
async fn a_blob_comes_in_in_every_way_that_the_specification_knows() {
    let server = Testbed::start().await;
    let asking = Asking::of(&server, "app");
    let bytes: Vec<u8> = (0..1_200_003_u32).map(|n| (n % 249) as u8).collect();
    let mut hasher = Hasher::new(Algorithm::Sha512);
    hasher.update(&bytes);
    let sizes = format!("0-{}", bytes.len() - 1);
    for (way, digest) in ["post", "put", "patch", "range", "unannounced"]
        .into_iter()
        .flat_map(|way| [(way, Digest::sha256(&bytes)), (way, hasher.clone().finish())])
    {
        let path = format!("blobs/{digest}");
        let closed = if way == "post" {
            asking.send(Method::POST, &format!("blobs/uploads/?digest={digest}"), &[], &bytes).await
        } else {
            let mut location = asking.begin().await;
            let mut rest = &bytes[..];
            if way != "put" {
                let headers: &[_] = if way == "range" { &[("content-range", sizes.as_str())] } else { &[] };
                let taken = asking.send(Method::PATCH, &location, headers, &bytes).await;
                assert_eq!((taken.status().as_u16(), header(&taken, "range")), (202, sizes.clone()));
                (location, rest) = (header(&taken, "location"), &[]);
            }
            asking.send(Method::PUT, &format!("{location}?digest={digest}"), &[], rest).await
        };
        assert_eq!(closed.status(), 201, "{way} {digest}");
        assert_eq!(header(&closed, "docker-content-digest"), digest.to_string());
        let back = asking.get(&header(&closed, "location")).await;
        assert_eq!(header(&back, "content-length"), bytes.len().to_string());
        assert!(back.bytes().await.unwrap() == bytes, "{way}");
        let head = asking.send(Method::HEAD, &path, &[], b"").await;
        assert_eq!((head.status().as_u16(), header(&head, "content-length")), (200, bytes.len().to_string()));
        assert_eq!(asking.send(Method::DELETE, &path, &[], b"").await.status(), 202);
        assert_eq!(code(asking.get(&path).await).await, (404, "BLOB_UNKNOWN".into()));
    }
    assert_eq!(std::fs::read_dir(server.data_dir().join("uploads")).unwrap().count(), 0, "sessions leave nothing");
}

#[tokio::test]
async fn a_blob_is_handed_out_in_parts() {
    let server = Testbed::start().await;
    let asking = Asking::of(&server, "app");
    let path = format!("blobs/{}", asking.push_blob(b"0123456789").await);
    for (range, status, told, body) in [
        ("bytes=2-4", 206, "bytes 2-4/10", "234"),
        ("bytes=7-", 206, "bytes 7-9/10", "789"),
        ("bytes=-2", 206, "bytes 8-9/10", "89"),
        ("bytes=10-", 416, "bytes */10", ""),
        ("bytes=0-1,4-5", 200, "", "0123456789"),
    ] {
        let answer = asking.send(Method::GET, &path, &[("range", range)], b"").await;
        assert_eq!((answer.status().as_u16(), header(&answer, "content-range").as_str()), (status, told), "{range}");
        assert_eq!(answer.text().await.unwrap(), body, "{range}");
    }
    let answer = asking.send(Method::GET, &path, &[("range", "bytes=2-4"), ("if-range", "\"other\"")], b"").await;
    assert_eq!(answer.status(), 200, "a part of something else is of no use");
}

#[tokio::test]
async fn wrong_bytes_never_become_a_blob() {
    let server = Testbed::start().await;
    let asking = Asking::of(&server, "app");
    let digest = Digest::sha256(b"right");
    let location = asking.begin().await;
    let refused = asking.send(Method::PUT, &format!("{location}?digest={digest}"), &[], b"wrong").await;
    assert_eq!(code(refused).await, (400, "DIGEST_INVALID".into()));
    let refused = asking.send(Method::POST, &format!("blobs/uploads/?digest={digest}"), &[], b"wrong").await;
    assert_eq!(code(refused).await, (400, "DIGEST_INVALID".into()));
    for text in ["sha256:../../x", "md5:d41d8cd98f00b204e9800998ecf8427e", ""] {
        let location = asking.begin().await;
        let refused = asking.send(Method::PUT, &format!("{location}?digest={text}"), &[], b"").await;
        assert_eq!(code(refused).await, (400, "DIGEST_INVALID".into()), "{text}");
    }
    assert_eq!(asking.get(&format!("blobs/{digest}")).await.status(), 404);
    let (node, wrong) = (Descriptor::of(MediaType::OCI_INDEX, b"{}"), r#"{"manifests":[]}"#);
    let refused = asking.put_manifest(&node.digest.to_string(), &MediaType::OCI_INDEX, wrong).await;
    assert_eq!(code(refused).await, (400, "DIGEST_INVALID".into()));
}

#[tokio::test]
async fn chunks_come_in_order_or_not_at_all() {
    let server = Testbed::start().await;
    let asking = Asking::of(&server, "app");
    let location = asking.begin().await;
    let chunk = async |range: &'static str, bytes: &'static [u8]| {
        asking.send(Method::PATCH, &location, &[("content-range", range)], bytes).await
    };
    assert_eq!(chunk("0-3", b"abcd").await.status(), 202);
    for (range, bytes) in [("0-3", &b"abcd"[..]), ("5-7", b"fgh"), ("3-4", b"de")] {
        let refused = chunk(range, bytes).await;
        assert_eq!((refused.status().as_u16(), header(&refused, "range").as_str()), (416, "0-3"), "{range}");
    }
    assert_eq!(code(chunk("4-9", b"ef").await).await, (400, "SIZE_INVALID".into()));
    assert_eq!(code(chunk("bytes 4-5", b"ef").await).await, (400, "BLOB_UPLOAD_INVALID".into()));
    let status = asking.get(&location).await;
    assert_eq!((status.status().as_u16(), header(&status, "range").as_str()), (204, "0-3"));
    assert_eq!(header(&status, "location"), location);
    let path = format!("{location}?digest={}", Digest::sha256(b"abcdef"));
    assert_eq!(asking.send(Method::PUT, &path, &[("content-range", "9-10")], b"ef").await.status(), 416);
    assert_eq!(asking.send(Method::PUT, &path, &[("content-range", "4-5")], b"ef").await.status(), 201);
    assert_eq!(asking.get(&location).await.status(), 404, "a closed session is over");
    let location = asking.begin().await;
    assert_eq!(asking.send(Method::DELETE, &location, &[], b"").await.status(), 204);
    assert_eq!(code(asking.get(&location).await).await, (404, "BLOB_UPLOAD_UNKNOWN".into()));
    let elsewhere = asking.begin().await.replace("/v2/app/", "/v2/other/");
    assert_eq!(asking.get(&elsewhere).await.status(), 404, "a session belongs to its repository");
}

#[tokio::test]
async fn an_upload_goes_on_where_a_lost_connection_left_it() {
    let server = Testbed::start().await;
    let asking = Asking::of(&server, "app");
    let bytes: Vec<u8> = (0..900_000_u32).map(|n| (n % 241) as u8).collect();
    let location = asking.begin().await;
    {
        let mut connection = std::net::TcpStream::connect(server.host()).unwrap();
        write!(connection, "PATCH {location} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", bytes.len()).unwrap();
        connection.write_all(&bytes[..600_000]).unwrap();
    }
    let mut offset = 0;
    for _ in 0..200 {
        let status = asking.get(&location).await;
        offset = header(&status, "range").strip_prefix("0-").unwrap().parse::<usize>().unwrap() + 1;
        if offset == 600_000 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(offset, 600_000, "everything that arrived counts");
    let range = format!("{offset}-{}", bytes.len() - 1);
    let taken = asking.send(Method::PATCH, &location, &[("content-range", &range)], &bytes[offset..]).await;
    assert_eq!(taken.status(), 202);
    let path = format!("{location}?digest={}", Digest::sha256(&bytes));
    assert_eq!(asking.send(Method::PUT, &path, &[], b"").await.status(), 201);
}

#[tokio::test]
async fn what_was_acknowledged_outlives_the_server_and_nothing_else_shows() {
    let folder = tempfile::tempdir().unwrap();
    let (node, location, blob);
    {
        let server = Testbed::over(folder.path(), Behaviour::default()).await;
        let asking = Asking::of(&server, "a/b");
        node = asking.push_image("v1", "kept", None).await;
        asking.push_image("", "attached", Some(&node)).await;
        location = asking.begin().await;
        asking.send(Method::PATCH, &location, &[], b"first half, ").await;
        blob = Digest::sha256(b"first half, second half");
    }
    let old = std::fs::File::create(folder.path().join("uploads/left-by-a-crash")).unwrap();
    old.set_modified(std::time::SystemTime::now() - Duration::from_secs(2 * 24 * 3600)).unwrap();
    let server = Testbed::over(folder.path(), Behaviour::default()).await;
    let asking = Asking::of(&server, "a/b");
    assert!(!folder.path().join("uploads/left-by-a-crash").exists());
    let pulled = asking.get("manifests/v1").await;
    assert_eq!(header(&pulled, "docker-content-digest"), node.digest.to_string());
    assert_eq!(header(&pulled, "content-type"), MediaType::OCI_MANIFEST.as_str());
    let referrers = json(asking.get(&format!("referrers/{}", node.digest)).await).await;
    assert_eq!(referrers["manifests"].as_array().unwrap().len(), 1);
    assert_eq!(asking.get(&format!("blobs/{blob}")).await.status(), 404);
    assert_eq!(header(&asking.get(&location).await, "range"), "0-11", "the session is still there");
    let closed = asking.send(Method::PUT, &format!("{location}?digest={blob}"), &[], b"second half").await;
    assert_eq!(closed.status(), 201);
    assert_eq!(asking.get(&format!("blobs/{blob}")).await.text().await.unwrap(), "first half, second half");
}

#[tokio::test]
async fn a_blob_is_mounted_without_being_sent() {
    let server = Testbed::start().await;
    let (from, to) = (Asking::of(&server, "from"), Asking::of(&server, "to"));
    let digest = from.push_blob(b"shared layer").await;
    let mount = async |asking: &Asking, query: String| {
        let answer = asking.send(Method::POST, &format!("blobs/uploads/?mount={query}"), &[], b"").await;
        (answer.status().as_u16(), header(&answer, "location"))
    };
    let (status, location) = mount(&to, format!("{digest}&from=from")).await;
    assert_eq!((status, location), (201, format!("/v2/to/blobs/{digest}")));
    assert_eq!(to.get(&format!("blobs/{digest}")).await.text().await.unwrap(), "shared layer");
    assert_eq!(mount(&from, format!("{digest}&from=from")).await.0, 201, "the same repository, and it holds it");
    let absent = Digest::sha256(b"absent");
    for query in [
        format!("{absent}&from=from"),
        format!("{absent}&from=to"),
        format!("{digest}&from=nowhere"),
        digest.to_string(),
    ] {
        let other = Asking::of(&server, "third");
        let (status, location) = mount(&other, query.clone()).await;
        assert_eq!(status, 202, "{query}");
        let bytes = b"sent after all";
        let path = format!("{location}?digest={}", Digest::sha256(bytes));
        assert_eq!(other.send(Method::PUT, &path, &[], bytes).await.status(), 201, "the session takes the bytes");
    }
}

#[tokio::test]
async fn a_manifest_is_taken_only_if_it_can_be_pulled_again() {
    let server = Testbed::start().await;
    let asking = Asking::of(&server, "app");
    asking.push_blob(b"{}").await;
    let text = image(&[("config", b"{}"), ("layer", b"missing layer")], "x", None);
    let refused = asking.put_manifest("v1", &MediaType::OCI_MANIFEST, &text).await;
    assert_eq!(refused.status(), 404);
    let told = refused.text().await.unwrap();
    let missing = Digest::sha256(b"missing layer").to_string();
    assert!(told.contains("MANIFEST_BLOB_UNKNOWN") && told.contains(&missing), "{told}");
    assert_eq!(code(asking.get("manifests/v1").await).await, (404, "MANIFEST_UNKNOWN".into()));
    let foreign = text.replace(
        "application/vnd.oci.image.config.v1+json\",\"size\":13",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip\",\"size\":13",
    );
    assert_ne!(foreign, text);
    assert_eq!(asking.put_manifest("v1", &MediaType::OCI_MANIFEST, &foreign).await.status(), 201);
    let child = Descriptor::of(MediaType::OCI_MANIFEST, b"not here");
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [child]}).to_string();
    assert_eq!(asking.put_manifest("sparse", &MediaType::OCI_INDEX, &index).await.status(), 201);
    assert_eq!(header(&asking.get("manifests/sparse").await, "content-type"), MediaType::OCI_INDEX.as_str());
    for (media_type, text) in [
        (MediaType::OCI_INDEX, foreign.as_str()),
        (MediaType::OCI_MANIFEST, "no json"),
        (MediaType::new("text/html"), "{}"),
        (MediaType::DOCKER_SCHEMA1, "{}"),
    ] {
        let refused = asking.put_manifest("v2", &media_type, text).await;
        assert_eq!(code(refused).await, (400, "MANIFEST_INVALID".into()), "{media_type} {text}");
    }
    let large = format!(r#"{{"schemaVersion":2,"manifests":[],"x":"{}"}}"#, "x".repeat(4 << 20));
    assert_eq!(asking.put_manifest("v2", &MediaType::OCI_INDEX, &large).await.status(), 413);
}

#[tokio::test]
async fn tags_beside_a_digest_are_all_put() {
    let server = Testbed::start().await;
    let asking = Asking::of(&server, "app");
    let text = r#"{"schemaVersion":2,"manifests":[]}"#;
    let digest = Digest::sha256(text.as_bytes());
    let answer = asking.put_manifest(&format!("{digest}?tag=b&tag=a"), &MediaType::OCI_INDEX, text).await;
    assert_eq!(answer.status(), 201);
    let told: Vec<_> = answer.headers().get_all("oci-tag").iter().collect();
    assert_eq!(told, ["b", "a"]);
    assert_eq!(json(asking.get("tags/list").await).await["tags"], serde_json::json!(["a", "b"]));
    let refused = asking.put_manifest(&format!("{digest}?tag=.no"), &MediaType::OCI_INDEX, text).await;
    assert_eq!(refused.status(), 400);
}

#[tokio::test]
async fn tags_and_repositories_are_listed_page_by_page() {
    let server = Testbed::start().await;
    let asking = Asking::of(&server, "app");
    assert_eq!(code(asking.get("tags/list").await).await, (404, "NAME_UNKNOWN".into()));
    for tag in ["v2", "v10", "latest", "A"] {
        asking.push_image(tag, tag, None).await;
    }
    let mut path = "tags/list?n=3".to_owned();
    let mut pages = Vec::new();
    while !path.is_empty() {
        let answer = asking.get(&path).await;
        let link = header(&answer, "link");
        path = link.split(['<', '>']).nth(1).unwrap_or_default().to_owned();
        pages.push(json(answer).await["tags"].clone());
    }
    assert_eq!(serde_json::json!(pages), serde_json::json!([["A", "latest", "v10"], ["v2"]]));
    let last = asking.get("tags/list?n=2&last=latest").await;
    assert_eq!(header(&last, "link"), "", "no link to an empty page");
    assert_eq!(json(last).await["tags"], serde_json::json!(["v10", "v2"]));
    assert_eq!(json(asking.get("tags/list?n=0").await).await["tags"], serde_json::json!([]));
    assert_eq!(asking.get("tags/list?n=x").await.status(), 400);
    Asking::of(&server, "app/nested").push_blob(b"x").await;
    let all = json(asking.get("/v2/_catalog").await).await;
    assert_eq!(all["repositories"], serde_json::json!(["app", "app/nested"]));
    assert_eq!(json(asking.get("/v2/_catalog?n=1").await).await["repositories"], serde_json::json!(["app"]));
}

#[tokio::test]
async fn referrers_are_listed_and_filtered() {
    let server = Testbed::start().await;
    let asking = Asking::of(&server, "app");
    let subject = Descriptor::of(MediaType::OCI_MANIFEST, b"comes later");
    let none = asking.get(&format!("referrers/{}", subject.digest)).await;
    assert_eq!((none.status().as_u16(), header(&none, "content-type").as_str()), (200, MediaType::OCI_INDEX.as_str()));
    assert_eq!(json(none).await["manifests"], serde_json::json!([]));
    asking.push_image("", "one", Some(&subject)).await;
    let two = asking.push_image("", "two", Some(&subject)).await;
    let text = image(&[("config", b"{\"one\":0}")], "three", Some(&subject));
    let pushed = asking.put_manifest("v3", &MediaType::OCI_MANIFEST, &text).await;
    assert_eq!(header(&pushed, "oci-subject"), subject.digest.to_string());
    let path = format!("referrers/{}", subject.digest);
    assert_eq!(json(asking.get(&path).await).await["manifests"].as_array().unwrap().len(), 3);
    let some = asking.get(&format!("{path}?artifactType=application/x.two")).await;
    assert_eq!(header(&some, "oci-filters-applied"), "artifactType");
    let some = json(some).await;
    assert_eq!(some["manifests"].as_array().unwrap().len(), 1);
    assert_eq!(some["manifests"][0]["digest"], two.digest.to_string());
    assert_eq!(some["manifests"][0]["annotations"]["salt"], "two");
    assert_eq!(asking.get("referrers/nonsense").await.status(), 400);
    let gone = asking.send(Method::DELETE, &format!("manifests/{}", two.digest), &[], b"").await;
    assert_eq!(gone.status(), 202);
    assert_eq!(json(asking.get(&path).await).await["manifests"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_tag_goes_alone_and_a_manifest_with_its_tags() {
    let server = Testbed::start().await;
    let asking = Asking::of(&server, "app");
    let node = asking.push_image("v1", "x", None).await;
    asking.push_image("v2", "x", None).await;
    let delete = async |what: String| asking.send(Method::DELETE, &what, &[], b"").await.status().as_u16();
    assert_eq!(delete("manifests/v1".into()).await, 202);
    assert_eq!(delete("manifests/v1".into()).await, 404);
    assert_eq!(asking.get("manifests/v2").await.status(), 200);
    assert_eq!(delete(format!("blobs/{}", node.digest)).await, 405, "a manifest is no blob");
    assert_eq!(delete(format!("manifests/{}", node.digest)).await, 202);
    assert_eq!(asking.get("manifests/v2").await.status(), 404);
    assert_eq!(asking.get(&format!("manifests/{}", node.digest)).await.status(), 404);
    assert_eq!(json(asking.get("tags/list").await).await["tags"], serde_json::json!([]));
}

#[tokio::test]
async fn repositories_nest_without_meeting() {
    let server = Testbed::start().await;
    let names = ["a", "a/blobs", "a/blobs/sha256", "a/index.json", "a/b", "a/oci-layout", "blobs/uploads", "manifests"];
    for name in names {
        let asking = Asking::of(&server, name);
        asking.push_image("v1", &name.replace('/', "."), None).await;
    }
    for name in names {
        let asking = Asking::of(&server, name);
        let pulled = json(asking.get("manifests/v1").await).await;
        assert_eq!(pulled["annotations"]["salt"], name.replace('/', "."));
    }
    let all = json(Asking::of(&server, "a").get("/v2/_catalog").await).await;
    assert_eq!(all["repositories"].as_array().unwrap().len(), names.len());
}

#[tokio::test]
async fn what_lies_in_the_folder_is_an_image_layout_and_what_is_put_there_is_served() {
    let server = Testbed::start().await;
    let asking = Asking::of(&server, "app");
    let node = asking.push_image("v1", "x", None).await;
    let layout = Layout::open(server.layout("app").folder()).await.unwrap();
    assert_eq!(layout.resolve(&Name::Tag("v1".parse().unwrap()), Want::Bytes).await.unwrap().node, node);
    assert_eq!(layout.tags().await.unwrap(), ["v1".parse().unwrap()]);
    let root = layout.resolve(&Name::Digest(node.digest), Want::Bytes).await.unwrap();
    let body = autonomy_registry::store::Body::bytes(node.clone(), root.bytes.unwrap());
    layout.put(&node, &body, &["carried".parse().unwrap()]).await.unwrap();
    assert_eq!(asking.get("manifests/carried").await.status(), 200, "another program's tag is seen at once");
}

#[tokio::test]
async fn a_read_only_server_refuses_writes_and_stops_when_told() {
    let folder = tempfile::tempdir().unwrap();
    let digest = {
        let server = Testbed::over(folder.path(), Behaviour::default()).await;
        Asking::of(&server, "app").push_blob(b"kept").await
    };
    let mut options = Options::new(folder.path(), ([127, 0, 0, 1], 0).into());
    options.is_read_only = true;
    let server = Server::bind(options).await.unwrap();
    let asking = Asking { client: client(), base: format!("http://{}", server.address()), name: "app".into() };
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(server.run(async { stopped.await.unwrap_or_default() }));
    assert_eq!(asking.get(&format!("blobs/{digest}")).await.text().await.unwrap(), "kept");
    for (method, path) in [
        (Method::POST, "blobs/uploads/".to_owned()),
        (Method::PUT, "manifests/v1".to_owned()),
        (Method::DELETE, format!("blobs/{digest}")),
        (Method::PATCH, "blobs/uploads/x".to_owned()),
    ] {
        assert_eq!(code(asking.send(method, &path, &[], b"").await).await, (405, "UNSUPPORTED".into()), "{path}");
    }
    assert_eq!(asking.get("/healthz").await.status(), 200);
    let metrics = asking.get("/metrics").await.text().await.unwrap();
    for line in [
        r#"autonomy_registry_requests_total{method="GET",status="2xx"} 2"#,
        r#"autonomy_registry_requests_total{method="PUT",status="4xx"} 1"#,
        "autonomy_registry_sent_bytes_total 4",
        "autonomy_registry_uploads 0",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} is not in\n{metrics}");
    }
    drop(asking);
    stop.send(()).unwrap();
    tokio::time::timeout(Duration::from_secs(5), running).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn a_read_only_server_writes_nothing_itself() {
    let folder = tempfile::tempdir().unwrap();
    let absent = folder.path().join("absent");
    let mut options = Options::new(&absent, ([127, 0, 0, 1], 0).into());
    options.is_read_only = true;
    let server = Server::bind(options).await.unwrap();
    let asking = Asking { client: client(), base: format!("http://{}", server.address()), name: "app".into() };
    tokio::spawn(server.run(std::future::pending()));
    for path in ["manifests/v1", "tags/list", "blobs/uploads/x"] {
        assert_eq!(asking.get(path).await.status(), 404, "{path}");
    }
    assert_eq!(json(asking.get("/v2/_catalog").await).await["repositories"], serde_json::json!([]));
    let subject = Digest::sha256(b"x");
    assert_eq!(asking.get(&format!("referrers/{subject}")).await.status(), 200);
    assert!(!absent.exists());
}

#[tokio::test]
async fn no_path_leaves_the_data_folder() {
    let server = Testbed::start().await;
    let asking = Asking::of(&server, "app");
    let secret = server.data_dir().join("secret");
    std::fs::write(&secret, "x").unwrap();
    for path in [
        "/v2/app/../../secret",
        "/v2/..%2f..%2fsecret/manifests/v1",
        "/v2/app/manifests/..%2f..%2fsecret",
        "/v2/app/blobs/uploads/..%2f..%2fsecret",
        "/v2/app/blobs/uploads/....................................",
        "/v2/_layout/manifests/v1",
        "/v2/app/_layout/manifests/v1",
    ] {
        // Written by hand, because clients tidy such paths up before they send them.
        let mut connection = std::net::TcpStream::connect(server.host()).unwrap();
        for method in ["GET", "DELETE", "PUT"] {
            write!(connection, "{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n").unwrap();
        }
        write!(connection, "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let answers = std::io::read_to_string(&connection).unwrap();
        let statuses: Vec<_> = answers.split("HTTP/1.1 ").skip(1).collect();
        assert_eq!(statuses.len(), 4, "{answers}");
        assert!(statuses[..3].iter().all(|status| status.starts_with('4')), "{path}: {statuses:?}");
    }
    assert_eq!(std::fs::read_to_string(&secret).unwrap(), "x");
    assert_eq!(code(asking.get("/nowhere").await).await.0, 404);
}
