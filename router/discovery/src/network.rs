use std::net::{IpAddr, SocketAddr};

use crate::DiscoveryError;

/// Which of this machine's addresses the server answers on, and therefore which are announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Every IPv4 address (the server listens on `0.0.0.0`).
    AnyV4,
    /// Every address (the server listens on `[::]`, which Linux opens for IPv4 too).
    Any,
    /// This address alone.
    One(IpAddr),
}

impl Scope {
    /// What a server listening there can announce; `None` for a loopback address, which nobody else reaches.
    #[must_use]
    pub fn of(listen: SocketAddr) -> Option<Self> {
        match listen.ip() {
            ip if ip.is_loopback() => None,
            IpAddr::V4(ip) if ip.is_unspecified() => Some(Self::AnyV4),
            IpAddr::V6(ip) if ip.is_unspecified() => Some(Self::Any),
            ip => Some(Self::One(ip)),
        }
    }

    /// Whether an address of this machine is announced.
    #[must_use]
    pub fn covers(self, ip: IpAddr) -> bool {
        let listens = match self {
            Self::AnyV4 => ip.is_ipv4(),
            Self::Any => true,
            Self::One(one) => one == ip,
        };
        listens && !ip.is_loopback()
    }
}

/// The addresses under which others reach this machine, IPv4 first. IPv6 link-local ones are left out: they need a
/// zone to be written into a URL.
///
/// # Errors
/// [`DiscoveryError::Interfaces`].
pub fn lan_addresses(scope: Scope) -> Result<Vec<IpAddr>, DiscoveryError> {
    let mut addresses: Vec<IpAddr> = own_addresses()?
        .into_iter()
        .filter(|ip| scope.covers(*ip))
        .filter(|ip| !matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local()))
        .collect();
    addresses.sort();
    addresses.dedup();
    Ok(addresses)
}

pub(crate) fn own_addresses() -> Result<Vec<IpAddr>, DiscoveryError> {
    let interfaces = if_addrs::get_if_addrs().map_err(DiscoveryError::Interfaces)?;
    Ok(interfaces.into_iter().map(|interface| interface.ip()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_has_no_scope() {
        assert_eq!(Scope::of("127.0.0.1:8080".parse().unwrap()), None);
        assert_eq!(Scope::of("[::1]:8080".parse().unwrap()), None);
    }

    #[test]
    fn scope_follows_the_listening_address() {
        let v4: IpAddr = "192.0.2.1".parse().unwrap();
        let v6: IpAddr = "2001:db8::1".parse().unwrap();
        let any_v4 = Scope::of("0.0.0.0:80".parse().unwrap()).unwrap();
        assert!(any_v4.covers(v4) && !any_v4.covers(v6));
        let any = Scope::of("[::]:80".parse().unwrap()).unwrap();
        assert!(any.covers(v4) && any.covers(v6) && !any.covers("127.0.0.1".parse().unwrap()));
        let one = Scope::of("192.0.2.1:80".parse().unwrap()).unwrap();
        assert!(one.covers(v4) && !one.covers("192.0.2.2".parse().unwrap()));
    }
}
