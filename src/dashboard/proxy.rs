//! A proxy that says by headers who somebody is.

use std::net::IpAddr;

use axum::http::{HeaderMap, HeaderValue};
use ipnet::IpNet;

use super::identity::{Shown, digest};
use super::refusal::Refusal;

/// The header by which a proxy shows that it is the trusted one.
pub const PROXY_SECRET: &str = "x-molt-proxy-secret";
/// Groups that a proxy may name.
const MOST_GROUPS: usize = 200;

/// Which proxy may say who somebody is.
#[derive(Clone, Debug, Default)]
pub struct TrustedProxy {
    /// Its addresses. Empty: any, if it knows the secret.
    pub networks: Vec<IpNet>,
    /// A digest of the secret that it sends. `None`: its address is enough.
    pub secret: Option<Shown>,
    /// The header with the user's name.
    pub user_header: String,
    /// The header with the groups, separated by commas; it may be there several times.
    pub groups_header: String,
}

impl TrustedProxy {
    /// No proxy is trusted.
    pub fn is_none(&self) -> bool {
        self.networks.is_empty() && self.secret.is_none()
    }

    /// Whom its headers name; `None` without such headers.
    pub fn user(
        &self,
        headers: &HeaderMap,
        peer: Option<IpAddr>,
    ) -> Result<Option<(String, Vec<String>)>, Refusal> {
        let Some(user) = headers.get(&self.user_header).filter(|_| !self.is_none()) else {
            return Ok(None);
        };
        let near = self.networks.is_empty()
            || peer.is_some_and(|peer| {
                self.networks
                    .iter()
                    .any(|network| network.contains(&peer.to_canonical()))
            });
        let knows = self.secret.is_none_or(|secret| {
            let shown = headers.get(PROXY_SECRET).map(|shown| digest(shown.as_bytes()));
            shown == Some(secret)
        });
        if !near || !knows {
            let what = if near {
                "does not send the secret of"
            } else {
                "does not come from an address of"
            };
            return Err(Refusal::Forbidden(format!(
                "the request names a user in {} and {what} a trusted proxy",
                self.user_header
            )));
        }
        // A proxy that adds its own to what a stranger sent would let the stranger choose.
        if headers.get_all(&self.user_header).iter().count() > 1 {
            return Err(Refusal::Forbidden(format!(
                "the request names several users in {}: the proxy must replace that header",
                self.user_header
            )));
        }
        let text = |value: &HeaderValue| value.to_str().map(str::trim).map(str::to_owned);
        let unreadable =
            |_| Refusal::Invalid(format!("the header {} is not readable text", self.user_header));
        let user = text(user).map_err(unreadable)?;
        let mut groups = Vec::new();
        for value in headers.get_all(&self.groups_header) {
            let value = text(value).map_err(unreadable)?;
            groups.extend(
                value
                    .split(',')
                    .map(str::trim)
                    .filter(|g| !g.is_empty())
                    .map(str::to_owned),
            );
        }
        // Names of the cluster's own are no proxy's to give away.
        let own = |name: &String| name.starts_with("system:");
        if user.is_empty() || own(&user) || groups.iter().any(own) || groups.len() > MOST_GROUPS {
            return Err(Refusal::Forbidden(format!(
                "the proxy names a user or a group that it may not name: none is empty or begins with system:, and there are at most {MOST_GROUPS} groups"
            )));
        }
        Ok(Some((user, groups)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy(networks: &[&str], secret: Option<&str>) -> TrustedProxy {
        TrustedProxy {
            networks: networks.iter().map(|n| n.parse().unwrap()).collect(),
            secret: secret.map(|s| digest(s.as_bytes())),
            user_header: "x-forwarded-user".to_owned(),
            groups_header: "x-forwarded-groups".to_owned(),
        }
    }

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    const ADA: (&str, &str) = ("x-forwarded-user", "ada");

    #[test]
    fn a_proxy_is_believed_by_its_address_and_its_secret() {
        let near = Some("10.1.2.3".parse().unwrap());
        let mapped = Some("::ffff:10.1.2.3".parse().unwrap());
        let far = Some("192.0.2.1".parse().unwrap());
        let with = headers(&[
            ADA,
            (PROXY_SECRET, "s3cret"),
            ("x-forwarded-groups", "dev, ops"),
            ("x-forwarded-groups", "oncall"),
        ]);
        let without = headers(&[ADA]);
        let both = proxy(&["10.0.0.0/8"], Some("s3cret"));
        let (user, groups) = both.user(&with, near).unwrap().unwrap();
        assert_eq!(
            (user.as_str(), groups.join(" ")),
            ("ada", "dev ops oncall".to_owned())
        );
        assert!(both.user(&with, mapped).unwrap().is_some());
        for (headers, peer) in [(&with, far), (&without, near), (&with, None)] {
            assert!(matches!(both.user(headers, peer), Err(Refusal::Forbidden(_))));
        }
        assert!(
            proxy(&["10.0.0.0/8"], None)
                .user(&without, near)
                .unwrap()
                .is_some()
        );
        assert!(proxy(&[], Some("s3cret")).user(&with, far).unwrap().is_some());
        // Nobody is trusted: the headers mean nothing.
        assert!(proxy(&[], None).user(&with, near).unwrap().is_none());
    }

    #[test]
    fn a_proxy_gives_no_name_of_the_clusters_own() {
        let near = Some("10.1.2.3".parse().unwrap());
        let proxy = proxy(&["10.0.0.0/8"], None);
        for pairs in [
            &[("x-forwarded-user", "system:admin")][..],
            &[("x-forwarded-user", "")],
            &[ADA, ("x-forwarded-groups", "dev,system:masters")],
            &[ADA, ("x-forwarded-user", "bob")],
        ] {
            assert!(matches!(
                proxy.user(&headers(pairs), near),
                Err(Refusal::Forbidden(_))
            ));
        }
    }
}
