//! Which addresses a name may lead to.
//!
//! A name of the control interface is resolved when it is used, by servers that others run. One that suddenly leads into the
//! network of the platform, or to the metadata of the machine, is not the one the operator meant.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Resolves names of one control, and refuses the ones that lead where they may not.
#[derive(Clone, Copy, Debug)]
pub(super) struct Guarded {
    /// Addresses of private networks are what the operator meant.
    pub internal: bool,
}

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let guarded = *self;
        Box::pin(async move {
            let name = name.as_str();
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name, 0)).await?.collect();
            match found.iter().find(|found| !guarded.allows(name, found.ip())) {
                Some(found) => Err(format!("{name} leads to {}, where nothing may be sent", found.ip()).into()),
                None => Ok(Box::new(found.into_iter()) as Addrs),
            }
        })
    }
}

impl Guarded {
    fn allows(self, name: &str, address: IpAddr) -> bool {
        match reach(address) {
            Reach::World => true,
            Reach::Network => self.internal,
            Reach::Machine => name == "localhost" || self.internal,
            Reach::Nowhere => false,
        }
    }
}

/// How far away an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    World,
    /// A private network.
    Network,
    /// This machine.
    Machine,
    /// The link, with the metadata of clouds on it; groups; what is reserved.
    Nowhere,
}

fn reach(address: IpAddr) -> Reach {
    match address {
        IpAddr::V4(address) => reach_v4(address),
        IpAddr::V6(address) => reach_v6(address),
    }
}

fn reach_v4(address: Ipv4Addr) -> Reach {
    let [first, second, third, _] = address.octets();
    match (first, second, third) {
        (127, ..) => Reach::Machine,
        (10, ..) | (172, 16..=31, _) | (192, 168, _) | (100, 64..=127, _) => Reach::Network,
        (0, ..) | (169, 254, _) | (192, 0, 0) | (198, 18..=19, _) | (224.., ..) => Reach::Nowhere,
        _ => Reach::World,
    }
}

fn reach_v6(address: Ipv6Addr) -> Reach {
    if let Some(within) = within(address) {
        return reach_v4(within);
    }
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 1] => Reach::Machine,
        [0xfc00..=0xfdff, ..] => Reach::Network,
        // 2000::/3 is all that is given out; Teredo, 2001::/32, hides another address.
        [0x2001, 0, ..] => Reach::Nowhere,
        [0x2000..=0x3fff, ..] => Reach::World,
        _ => Reach::Nowhere,
    }
}

/// The address of version 4 that one of version 6 carries: mapped, translated (64:ff9b::/96) or tunnelled (2002::/16).
fn within(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let of = |high: u16, low: u16| Some(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)));
    match address.segments() {
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => of(high, low),
        [0x2002, high, low, ..] => of(high, low),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_reach_as_far_as_they_do() {
        let expected = [
            ("93.184.216.34", Reach::World),
            ("2606:2800:220:1:248:1893:25c8:1946", Reach::World),
            ("10.1.2.3", Reach::Network),
            ("172.16.0.1", Reach::Network),
            ("172.32.0.1", Reach::World),
            ("192.168.1.1", Reach::Network),
            ("100.64.0.1", Reach::Network),
            ("fd00::1", Reach::Network),
            ("127.0.0.1", Reach::Machine),
            ("::1", Reach::Machine),
            ("169.254.169.254", Reach::Nowhere),
            ("0.0.0.0", Reach::Nowhere),
            ("::", Reach::Nowhere),
            ("224.0.0.1", Reach::Nowhere),
            ("255.255.255.255", Reach::Nowhere),
            ("fe80::1", Reach::Nowhere),
            ("ff02::1", Reach::Nowhere),
            ("::ffff:10.0.0.1", Reach::Network),
            ("::ffff:127.0.0.1", Reach::Machine),
            ("64:ff9b::a9fe:a9fe", Reach::Nowhere),
            ("2002:7f00:1::", Reach::Machine),
            ("2001::1", Reach::Nowhere),
        ];
        for (address, expected) in expected {
            assert_eq!(reach(address.parse().expect("an address")), expected, "{address}");
        }
    }

    #[test]
    fn a_name_leads_to_a_private_network_only_where_that_is_meant() {
        let address = "10.0.0.1".parse().expect("an address");
        assert!(!Guarded { internal: false }.allows("control.example.org", address));
        assert!(Guarded { internal: true }.allows("control.example.org", address));
        let metadata = "169.254.169.254".parse().expect("an address");
        assert!(!Guarded { internal: true }.allows("control.example.org", metadata));
        let this = "127.0.0.1".parse().expect("an address");
        assert!(!Guarded { internal: false }.allows("control.example.org", this));
        assert!(Guarded { internal: false }.allows("localhost", this));
    }
}
