//! The HTTP proxy that the environment names for a server, by the rules that Go programs follow.

use std::net::IpAddr;

use http::Uri;

/// The variables that matter; each is looked up in upper, then in lower case.
#[derive(Debug, Default)]
pub(super) struct ProxyEnvironment {
    pub(super) https_proxy: String,
    pub(super) http_proxy: String,
    pub(super) no_proxy: String,
}

impl ProxyEnvironment {
    pub(super) fn read() -> ProxyEnvironment {
        let variable = |name: &str| {
            let value = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
            value(name).or_else(|| value(&name.to_lowercase())).unwrap_or_default()
        };
        ProxyEnvironment {
            https_proxy: variable("HTTPS_PROXY"),
            http_proxy: variable("HTTP_PROXY"),
            no_proxy: variable("NO_PROXY"),
        }
    }

    /// The proxy through which to reach `server`, if any. Text that is no URL counts as none.
    pub(super) fn proxy_for(&self, server: &Uri) -> Option<Uri> {
        let https = server.scheme_str() == Some("https");
        let proxy = if https { &self.https_proxy } else { &self.http_proxy };
        let host = server.host()?.trim_matches(['[', ']']).to_lowercase();
        let port = server.port_u16().unwrap_or(if https { 443 } else { 80 });
        if proxy.is_empty() || self.exempts(&host, port) {
            return None;
        }
        let with_scheme = if proxy.contains("://") { proxy.clone() } else { format!("http://{proxy}") };
        with_scheme.parse().ok()
    }

    fn exempts(&self, host: &str, port: u16) -> bool {
        let address: Option<IpAddr> = host.parse().ok();
        if host == "localhost" || address.is_some_and(|address| address.is_loopback()) {
            return true;
        }
        let entries = self.no_proxy.split(',').map(|entry| entry.trim().to_lowercase());
        entries.filter(|entry| !entry.is_empty()).any(|entry| entry_matches(&entry, host, address, port))
    }
}

/// `*`, an address range, an address, a domain with all below it, or `.domain` for those below it only; an address
/// or a domain may be followed by a port.
fn entry_matches(entry: &str, host: &str, address: Option<IpAddr>, port: u16) -> bool {
    if entry == "*" {
        return true;
    }
    if let (Ok(range), Some(address)) = (entry.parse::<ipnet::IpNet>(), address) {
        return range.contains(&address);
    }
    if let (Ok(listed), Some(address)) = (entry.trim_matches(['[', ']']).parse::<IpAddr>(), address) {
        return listed == address;
    }
    let (name, wanted_port) = match entry.rsplit_once(':') {
        Some((name, digits)) => match digits.parse::<u16>() {
            Ok(wanted) => (name.trim_matches(['[', ']']), Some(wanted)),
            Err(_) => (entry, None),
        },
        None => (entry, None),
    };
    if wanted_port.is_some_and(|wanted| wanted != port) {
        return false;
    }
    let name = name.strip_prefix('*').unwrap_or(name);
    match name.strip_prefix('.') {
        Some(_) => host.ends_with(name),
        None => host == name || host.strip_suffix(name).is_some_and(|above| above.ends_with('.')),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy_for(server: &str, no_proxy: &str) -> Option<String> {
        let environment = ProxyEnvironment {
            https_proxy: "proxy.example:3128".to_owned(),
            http_proxy: String::new(),
            no_proxy: no_proxy.to_owned(),
        };
        environment.proxy_for(&server.parse().unwrap()).map(|uri| uri.to_string())
    }

    #[test]
    fn the_scheme_of_the_server_chooses_the_variable() {
        assert_eq!(proxy_for("https://api.example:6443", "").as_deref(), Some("http://proxy.example:3128/"));
        assert_eq!(proxy_for("http://api.example:8080", ""), None);
        assert_eq!(proxy_for("https://127.0.0.1:6443", ""), None);
        assert_eq!(proxy_for("https://localhost", ""), None);
    }

    #[test]
    fn no_proxy_names_hosts_domains_and_ranges() {
        for (server, no_proxy) in [
            ("https://10.96.0.1", "10.0.0.0/8"),
            ("https://10.96.0.1:443", "x, 10.96.0.1"),
            ("https://10.96.0.1:443", "10.96.0.1:443"),
            ("https://[fd00::1]:6443", "fd00::/8"),
            ("https://api.example", "example"),
            ("https://api.example", ".example"),
            ("https://api.example", "*.example"),
            ("https://API.example", "api.example:443"),
            ("https://api.example", "*"),
        ] {
            assert_eq!(proxy_for(server, no_proxy), None, "{server} with {no_proxy}");
        }
        for (server, no_proxy) in [
            ("https://11.96.0.1", "10.0.0.0/8"),
            ("https://10.96.0.1:6443", "10.96.0.1:443"),
            ("https://example", ".example"),
            ("https://badexample", "example"),
        ] {
            assert!(proxy_for(server, no_proxy).is_some(), "{server} with {no_proxy}");
        }
    }
}
