//! Medians with their spread, ratios, a table to read and a file to compute with.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Settings;
use super::it::support::root;
use super::loads::Load;
use super::peers::Peer;

/// What one run measured, by name.
pub(crate) type Figures = BTreeMap<&'static str, f64>;

/// A figure's name, its heading and how many decimals it deserves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column(pub(crate) &'static str, pub(crate) &'static str, pub(crate) usize);

#[derive(Debug)]
pub(crate) struct Report {
    rounds: usize,
    seconds: u32,
    rows: Vec<(Load, Peer, Vec<Figures>)>,
}

impl Report {
    pub(crate) fn new(settings: &Settings) -> Self {
        let all = settings.loads.iter().flat_map(|load| settings.peers.iter().map(|peer| (*load, *peer)));
        let rows = all.filter(|(load, peer)| load.measures(*peer, 1)).map(|(load, peer)| (load, peer, Vec::new()));
        Self { rounds: settings.rounds, seconds: settings.seconds, rows: rows.collect() }
    }

    pub(crate) fn add(&mut self, load: Load, peer: Peer, figures: Figures) {
        let row = self.rows.iter_mut().find(|row| (row.0, row.1) == (load, peer));
        row.expect("it was asked for").2.push(figures);
    }

    pub(crate) fn print(&self, others: f64, stolen: f64) {
        println!(
            "{} rounds of {} s, medians (lowest-highest); x: to the relay's, to traced Envoy's",
            self.rounds, self.seconds
        );
        let verdict =
            if others + stolen > 3.0 { "too much: only ratios within a load mean something, if that" } else { "quiet" };
        println!("other processes took {others:.1} % of the machine, other machines {stolen:.1} %: {verdict}");
        for load in self.loads() {
            println!("\n{}", load.title());
            let key = load.key();
            print!("{:<24}{:>28}", "", key.1);
            let compared = self.compared(load);
            compared.iter().for_each(|(_, heading)| print!("{heading:>10}"));
            load.columns().iter().for_each(|column| print!("{:>14}", column.1));
            println!("{:>24}", "spans/calls");
            for (_, peer, rounds) in self.rows.iter().filter(|row| row.0 == load) {
                let digits = key.2;
                let spread = range(rounds, key.0)
                    .map(|(median, low, high)| format!("{median:.digits$} ({low:.digits$}-{high:.digits$})"));
                print!("{:<24}{:>28}", peer.title(), or_dash(spread));
                for (other, _) in &compared {
                    print!("{:>10}", or_dash(self.ratio(load, *peer, *other).map(|ratio| format!("{ratio:.2}x"))));
                }
                for Column(name, _, digits) in load.columns() {
                    print!("{:>14}", or_dash(range(rounds, name).map(|(median, ..)| format!("{median:.digits$}"))));
                }
                let sum = |name| rounds.iter().filter_map(|figures| figures.get(name)).sum::<f64>();
                let spans = (sum("calls") > 0.0).then(|| format!("{}/{}", sum("spans"), sum("calls")));
                println!("{:>24}", or_dash(spans));
            }
        }
    }

    /// Into `target/bench/load.json`; the bench's head documents the shape.
    pub(crate) fn write(&self, others: f64, stolen: f64) {
        let loads: Vec<_> = self.loads().into_iter().map(|load| self.load(load)).collect();
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        let cores = std::fs::read_to_string("/proc/cpuinfo").unwrap().matches("processor\t").count();
        let settings = json!({"rounds": self.rounds, "seconds": self.seconds, "kernel": kernel.trim(), "cores": cores,
            "others_percent": others, "stolen_percent": stolen});
        let folder = root().join("target/bench");
        std::fs::create_dir_all(&folder).unwrap();
        let text = serde_json::to_string_pretty(&json!({"settings": settings, "loads": loads})).unwrap();
        std::fs::write(folder.join("load.json"), text).unwrap();
        println!("\ntarget/bench/load.json has every round");
    }

    fn load(&self, load: Load) -> Value {
        let peers = self.rows.iter().filter(|row| row.0 == load).map(|(_, peer, rounds)| {
            let names: Vec<_> = rounds.iter().flat_map(Figures::keys).copied().collect();
            let each = |pick: fn((f64, f64, f64)) -> f64| -> BTreeMap<_, _> {
                names.iter().filter_map(|name| Some((*name, pick(range(rounds, name)?)))).collect()
            };
            json!({
                "name": peer.name(), "title": peer.title(),
                "to_direct": self.ratio(load, *peer, Peer::Direct), "to_relay": self.ratio(load, *peer, Peer::Relay),
                "to_envoy_on": self.ratio(load, *peer, Peer::EnvoyOn),
                "to_mitmproxy": self.ratio(load, *peer, Peer::Mitmproxy),
                "median": each(|range| range.0), "min": each(|range| range.1), "max": each(|range| range.2),
                "rounds": rounds,
            })
        });
        json!({"name": load.name(), "title": load.title(), "unit": load.unit(), "key": load.key().0, "peers": peers.collect::<Vec<_>>()})
    }

    /// Of the load's key figure, round by round, then the median: within a round two peers ran on the same machine, seconds
    /// apart; from round to round a virtual machine may run at another speed.
    fn ratio(&self, load: Load, peer: Peer, to: Peer) -> Option<f64> {
        if load.compares_paths() {
            return None;
        }
        let of = |peer| self.rows.iter().find(|row| (row.0, row.1) == (load, peer)).map(|row| &row.2);
        let key = load.key().0;
        let pairs = of(peer)?.iter().zip(of(to)?);
        let ratios: Vec<_> =
            pairs.filter_map(|(one, other)| Some(Figures::from([(key, one.get(key)? / other.get(key)?)]))).collect();
        Some(range(&ratios, key)?.0)
    }

    /// Whom the others of a table are compared with.
    fn compared(&self, load: Load) -> Vec<(Peer, &'static str)> {
        if load == Load::RoundTrips {
            return vec![(Peer::Direct, "x direct"), (Peer::Relay, "x relay")];
        }
        if load.compares_paths() {
            return Vec::new();
        }
        let mut all = vec![(Peer::Relay, "x relay"), (Peer::EnvoyOn, "x Envoy")];
        if self.rows.iter().any(|row| (row.0, row.1) == (load, Peer::Mitmproxy)) {
            all.push((Peer::Mitmproxy, "x mitm."));
        }
        all
    }

    fn loads(&self) -> Vec<Load> {
        let mut loads: Vec<_> = self.rows.iter().map(|row| row.0).collect();
        loads.dedup();
        loads
    }
}

/// One run on one line.
pub(crate) fn in_short(figures: &Figures) -> String {
    figures.iter().map(|(name, figure)| format!("{name}={figure:.1}")).collect::<Vec<_>>().join(" ")
}

/// Median, lowest, highest.
fn range(rounds: &[Figures], name: &str) -> Option<(f64, f64, f64)> {
    let mut figures: Vec<_> = rounds.iter().filter_map(|figures| figures.get(name).copied()).collect();
    figures.sort_by(f64::total_cmp);
    Some((*figures.get(figures.len() / 2)?, *figures.first()?, *figures.last()?))
}

fn or_dash(text: Option<String>) -> String {
    text.unwrap_or_else(|| "-".to_owned())
}
