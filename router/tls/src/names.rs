//! What the box is called on its network, and what its authority may vouch for.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};

use rcgen::{CidrSubnet, GeneralSubtree, NameConstraints};

/// Domains that nobody owns, which routers and mDNS give names in (RFC 6762, RFC 8375, and what is in use).
const LOCAL_DOMAINS: [&str; 5] = ["local", "home.arpa", "lan", "home", "internal"];
/// Networks of private use, and the machine itself: address and length of the prefix (RFC 1918, 3927, 4193, 4291).
const LOCAL_NETWORKS: [(&str, u8); 8] = [
    ("10.0.0.0", 8),
    ("172.16.0.0", 12),
    ("192.168.0.0", 16),
    ("169.254.0.0", 16),
    ("127.0.0.0", 8),
    ("fc00::", 7),
    ("fe80::", 10),
    ("::1", 128),
];
/// On a network with boxes of the same name this one may have become the second or third.
const CLASHES: [&str; 3] = ["", "-2", "-3"];
/// Addresses in one certificate. A machine of a home has a few.
const ADDRESSES_MAX: usize = 64;

/// What a certificate is for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    dns: BTreeSet<String>,
    addresses: BTreeSet<IpAddr>,
}

impl Names {
    /// Of a box that is called `label` and has these addresses; those that are not of local networks are left out, because the
    /// authority cannot vouch for them.
    #[must_use]
    pub fn of(label: &str, addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        let names = CLASHES.iter().flat_map(|clash| LOCAL_DOMAINS.map(|domain| format!("{label}{clash}.{domain}")));
        let local = addresses.into_iter().filter(|address| is_local(*address)).take(ADDRESSES_MAX);
        Self {
            dns: names.chain(["localhost".to_owned()]).collect(),
            addresses: local.chain([IpAddr::from([127, 0, 0, 1]), Ipv6Addr::LOCALHOST.into()]).collect(),
        }
    }

    /// Any name at all.
    #[cfg(test)]
    pub(crate) fn any(name: &str) -> Self {
        Self { dns: [name.to_owned()].into(), addresses: BTreeSet::new() }
    }

    /// All of them, as text.
    pub(crate) fn all(&self) -> Vec<String> {
        self.dns.iter().cloned().chain(self.addresses.iter().map(ToString::to_string)).collect()
    }
}

/// What the authority is confined to.
pub(crate) fn constraints() -> NameConstraints {
    let domains = LOCAL_DOMAINS.into_iter().chain(["localhost"]).map(|domain| GeneralSubtree::DnsName(domain.into()));
    let networks =
        networks().map(|(address, length)| GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(address, length)));
    NameConstraints { permitted_subtrees: domains.chain(networks).collect(), excluded_subtrees: Vec::new() }
}

fn networks() -> impl Iterator<Item = (IpAddr, u8)> {
    LOCAL_NETWORKS.into_iter().map(|(address, length)| (address.parse().expect("a test reads them"), length))
}

fn is_local(address: IpAddr) -> bool {
    networks().any(|(network, length)| match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            (address.to_bits() ^ network.to_bits()).checked_shr(32 - u32::from(length)).unwrap_or(0) == 0
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => {
            (address.to_bits() ^ network.to_bits()).checked_shr(128 - u32::from(length)).unwrap_or(0) == 0
        }
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_local_networks_are_vouched_for() {
        let local = ["10.1.2.3", "172.31.0.1", "192.168.1.20", "169.254.7.7", "127.0.0.1", "fd00::1", "fe80::1", "::1"];
        for address in local {
            assert!(is_local(address.parse().unwrap()), "{address}");
        }
        for address in ["11.0.0.1", "172.32.0.1", "192.169.0.1", "8.8.8.8", "2001:db8::1", "::2"] {
            assert!(!is_local(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn a_box_is_known_by_its_name_in_every_local_domain_and_by_its_addresses() {
        let names = Names::of("kitchen", ["192.168.1.20".parse().unwrap(), "8.8.8.8".parse().unwrap()]).all();
        for name in ["kitchen.local", "kitchen-2.local", "kitchen.home.arpa", "localhost", "192.168.1.20", "127.0.0.1"]
        {
            assert!(names.iter().any(|known| known == name), "{name}");
        }
        assert!(!names.iter().any(|known| known == "8.8.8.8"));
    }
}
