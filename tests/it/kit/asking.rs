//! Requests as clients of a registry send them, written by hand.

use autonomy_registry::oci::{Descriptor, Digest, MediaType};
use autonomy_registry::serve::testkit::Testbed;
use reqwest::{Client, Method, Response};

/// A client without any certificate: everything here is plain HTTP.
pub(crate) fn client() -> Client {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    Client::builder().tls_certs_only([]).build().unwrap()
}

/// One repository, with hand-written requests.
pub(crate) struct Asking {
    client: Client,
    base: String,
    name: String,
}

impl Asking {
    pub(crate) fn of(server: &Testbed, name: &str) -> Self {
        Self::at(server.host(), name)
    }

    pub(crate) fn at(host: impl std::fmt::Display, name: &str) -> Self {
        Self { client: client(), base: format!("http://{host}"), name: name.to_owned() }
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

pub(crate) async fn code(answer: Response) -> (u16, String) {
    let status = answer.status().as_u16();
    let document: serde_json::Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
    (status, document["errors"][0]["code"].as_str().unwrap().to_owned())
}

pub(crate) async fn json(answer: Response) -> serde_json::Value {
    serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap()
}
