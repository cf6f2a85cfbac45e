//! How a person names a host, a module and its authority: `mirra://host[:port]/module#KEY`, or parts of it.

use std::fmt;

use super::hash::{Authority, authority_from_text, authority_text};
use super::signed::check_module_name;

/// The port when none is named.
pub const DEFAULT_PORT: u16 = 6007;

/// Where to call: a host name or an IP address, and a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Host {
    /// Name or address, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

/// A host, and as much more as was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Where to call.
    pub host: Host,
    /// The module, if named.
    pub module: Option<String>,
    /// Path in the module, without the leading slash; empty for its top.
    pub path: String,
    /// The authority that is expected, if named.
    pub key: Option<Authority>,
}

/// What is wrong with an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" is no address: {why}")]
pub struct AddressError {
    text: String,
    why: &'static str,
}

impl Address {
    /// Reads `host`, `host:port`, `[v6]:port`, `v6`, any of them with `/module[/path]`, `mirra://` before and `#KEY`
    /// behind.
    ///
    /// # Errors
    /// [`AddressError`] that says which part is wrong.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let wrong = |why| AddressError { text: text.chars().filter(|c| !c.is_control()).take(200).collect(), why };
        let rest = text.strip_prefix("mirra://").unwrap_or(text);
        let (rest, key) = match rest.split_once('#') {
            Some((rest, key)) => {
                let key =
                    authority_from_text(key).ok_or_else(|| wrong("the key behind # is not 52 characters of base32"))?;
                (rest, Some(key))
            }
            None => (rest, None),
        };
        let (host, place) = rest.split_once('/').unwrap_or((rest, ""));
        let (module, path) = place.split_once('/').unwrap_or((place, ""));
        if !module.is_empty() && check_module_name(module).is_err() {
            return Err(wrong("the module's name has characters that no module has"));
        }
        let module = (!module.is_empty()).then(|| module.to_owned());
        let host = Host::parse(host).ok_or_else(|| wrong("expected HOST, HOST:PORT or [IPV6]:PORT"))?;
        Ok(Self { host, module, path: path.trim_end_matches('/').to_owned(), key })
    }
}

impl Host {
    fn parse(text: &str) -> Option<Self> {
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let (host, rest) = rest.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) })
        } else if text.parse::<std::net::Ipv6Addr>().is_ok() {
            (text, None)
        } else {
            match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            }
        };
        let named = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '%');
        if host.is_empty() || !host.chars().all(named) {
            return None;
        }
        let port = port.map_or(Some(DEFAULT_PORT), |p| p.parse().ok().filter(|p| *p != 0))?;
        Some(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.host.contains(':'), self.port == DEFAULT_PORT) {
            (false, true) => f.write_str(&self.host),
            (false, false) => write!(f, "{}:{}", self.host, self.port),
            (true, true) => write!(f, "[{}]", self.host),
            (true, false) => write!(f, "[{}]:{}", self.host, self.port),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mirra://{}", self.host)?;
        if let Some(module) = &self.module {
            write!(f, "/{module}")?;
        }
        if !self.path.is_empty() {
            write!(f, "/{}", self.path)?;
        }
        if let Some(key) = &self.key {
            write!(f, "#{}", authority_text(key))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read() {
        let key = Authority::of(b"k");
        let check = |text: &str, host: &str, port: u16, module: Option<&str>, path: &str| {
            let got = Address::parse(text).unwrap();
            assert_eq!(
                (got.host.host.as_str(), got.host.port, got.module.as_deref(), got.path.as_str()),
                (host, port, module, path)
            );
        };
        check("h", "h", 6007, None, "");
        check("h:1", "h", 1, None, "");
        check("h/m", "h", 6007, Some("m"), "");
        check("mirra://h:9/m/a/b/", "h", 9, Some("m"), "a/b");
        check("[::1]:7/m", "::1", 7, Some("m"), "");
        check("::1", "::1", 6007, None, "");
        let full = format!("mirra://h:9/m#{}", authority_text(&key));
        assert_eq!(Address::parse(&full).unwrap().key, Some(key));
        assert_eq!(Address::parse(&full).unwrap().to_string(), full);
    }

    #[test]
    fn wrong_addresses_are_refused() {
        for text in ["", "/m", "h:0", "h:x", "h:70000", "h/.m", "h#short", "[::1", "h o", "h\n", "[::1]x"] {
            assert!(Address::parse(text).is_err(), "{text}");
        }
    }
}
