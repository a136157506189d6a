//! Resolves host names through the C library, or without it if the program is linked statically against glibc.
//!
//! glibc resolves names through libraries that it loads at run time, which a static program cannot rely on. Such a
//! program reads only `/etc/hosts` and the name servers of `/etc/resolv.conf` (resolv.conf(5)): no `nsswitch.conf`, no
//! mDNS. If there is no name server, a name that is not in `/etc/hosts` fails at once: the program asks no public name
//! server, and waits for none on this machine.

use std::error::Error as StdError;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper_util::client::legacy::connect::dns::Name;
use tower_service::Service;

/// A name that has no address.
#[derive(Debug, thiserror::Error)]
#[error("the name cannot be looked up")]
pub(crate) struct Unknown(#[source] Box<dyn StdError + Send + Sync>);

/// Resolves host names.
#[derive(Debug, Clone, Default)]
pub(crate) struct Resolver(service::Service);

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = Unknown;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Unknown>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Unknown>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let service = self.0.clone();
        Box::pin(async move { Ok(service.look_up(name).await.map_err(Unknown)?.into_iter()) })
    }
}

#[cfg(not(all(target_env = "gnu", target_feature = "crt-static")))]
mod service {
    use std::error::Error as StdError;
    use std::net::SocketAddr;

    use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
    use tower_service::Service as _;

    #[derive(Debug, Clone)]
    pub(super) struct Service(GaiResolver);

    impl Default for Service {
        fn default() -> Self {
            Self(GaiResolver::new())
        }
    }

    impl Service {
        pub(super) async fn look_up(mut self, name: Name) -> Result<Vec<SocketAddr>, Box<dyn StdError + Send + Sync>> {
            Ok(self.0.call(name).await?.collect())
        }
    }
}

#[cfg(all(target_env = "gnu", target_feature = "crt-static"))]
mod service {
    use std::error::Error as StdError;
    use std::net::SocketAddr;
    use std::sync::{Arc, OnceLock};

    use hickory_resolver::TokioResolver;
    use hickory_resolver::config::{LookupIpStrategy, ResolverConfig};
    use hickory_resolver::net::runtime::TokioRuntimeProvider;
    use hyper_util::client::legacy::connect::dns::Name;

    /// Created at the first lookup: many registries have an address and no name.
    #[derive(Debug, Clone, Default)]
    pub(super) struct Service(Arc<OnceLock<Option<TokioResolver>>>);

    impl Service {
        pub(super) async fn look_up(self, name: Name) -> Result<Vec<SocketAddr>, Box<dyn StdError + Send + Sync>> {
            let resolver = self.0.get_or_init(open).as_ref().ok_or("no name service can be set up")?;
            let found = resolver.lookup_ip(name.as_str()).await?;
            Ok(found.iter().map(|address| SocketAddr::new(address, 0)).collect())
        }
    }

    fn open() -> Option<TokioResolver> {
        let mut builder = TokioResolver::builder_tokio().unwrap_or_else(|why| {
            tracing::debug!(%why, "no name servers: only /etc/hosts is read");
            let nobody = ResolverConfig::from_name_servers(Vec::new());
            TokioResolver::builder_with_config(nobody, TokioRuntimeProvider::default())
        });
        // Both address families, so that the faster one is used for the connection (RFC 8305).
        builder.options_mut().ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        builder.build().ok()
    }
}
