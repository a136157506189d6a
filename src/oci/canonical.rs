//! One spelling of a host, for comparison.

use std::net::IpAddr;

/// Docker Hub's name in references.
pub(super) const DOCKER_HUB: &str = "docker.io";
/// Docker Hub's other names: its API, and the name under which docker stores logins and cosign writes signatures.
const HUB_HOSTS: [&str; 3] = [DOCKER_HUB, "index.docker.io", "registry-1.docker.io"];

/// Returns whether `host` is Docker Hub, by one of its names, in any case and with or without its port.
pub(super) fn is_docker_hub(host: &str) -> bool {
    canonical_host(host) == DOCKER_HUB
}

/// Returns the host to connect to: Docker Hub's API has another name than its references.
pub(super) fn api_host(host: &str) -> &str {
    if is_docker_hub(host) { "registry-1.docker.io" } else { host }
}

/// Returns `host[:port]` in one spelling: lower case, addresses as the standard library writes them, no port if it is the
/// HTTPS port. Parses names like the client does for a connection, so that both agree which hosts are the same.
pub(super) fn canonical_host(host: &str) -> String {
    let end_of_name = host.rfind(']').map_or_else(|| host.find(':').unwrap_or(host.len()), |bracket| bracket + 1);
    let (name, port) = host.split_at(end_of_name);
    let name = match url::Host::parse(name) {
        Ok(url::Host::Ipv4(address)) => address.to_string(),
        Ok(url::Host::Ipv6(address)) => match address.to_canonical() {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("[{address}]"),
        },
        Ok(url::Host::Domain(name)) => name,
        Err(_) => name.to_ascii_lowercase(),
    };
    match port.trim_start_matches(':').parse::<u16>() {
        Ok(443) | Err(_) if HUB_HOSTS.contains(&name.as_str()) => DOCKER_HUB.to_owned(),
        Ok(443) | Err(_) => name,
        Ok(port) => format!("{name}:{port}"),
    }
}

#[cfg(test)]
mod tests {
    use crate::oci::{Reference, Repository};

    fn repository(text: &str) -> Repository {
        text.parse::<Reference>().unwrap().repository
    }

    #[test]
    fn every_spelling_of_a_repository_is_the_same_one() {
        for (canonical, others) in [
            ("a.example/x", &["a.example:443/x", "A.Example/x", "a.example:0443/x", "A.EXAMPLE:443/x"][..]),
            ("localhost:5000/x", &["localhost:05000/x", "LOCALHOST:5000/x"]),
            ("127.0.0.1:5000/x", &["127.1:5000/x", "127.0.0.1:05000/x", "[::ffff:127.0.0.1]:5000/x", "0x7f.1:5000/x"]),
            ("[::1]:5000/x", &["[0:0:0:0:0:0:0:1]:5000/x", "[0::1]:5000/x", "[::0001]:05000/x"]),
            ("[2001:db8::a]/x", &["[2001:DB8::A]/x", "[2001:db8:0:0::a]:443/x"]),
            (
                "docker.io/library/x",
                &["docker.io/x", "index.docker.io/x", "registry-1.docker.io/library/x", "Index.Docker.io:443/x"],
            ),
        ] {
            assert_eq!(repository(canonical).canonical().to_string(), canonical);
            for other in others {
                assert_eq!(repository(other).canonical().to_string(), canonical, "{other}");
                assert!(repository(other).is_same(&repository(canonical)), "{other}");
            }
        }
    }

    #[test]
    fn what_is_another_place_stays_another_one() {
        for (one, other) in [
            ("a.example/x", "a.example:80/x"),
            ("a.example/x", "b.example/x"),
            ("localhost:5000/x", "127.0.0.1:5000/x"),
            ("localhost:5000/x", "localhost:5001/x"),
            ("docker.io/a/x", "docker.io:5000/a/x"),
            ("[::1]/x", "[::2]/x"),
        ] {
            assert!(!repository(one).is_same(&repository(other)), "{one} {other}");
        }
    }
}
