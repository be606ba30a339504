//! Who uses the platform, and what it is made of.

use super::chance::Chance;
use super::{MINUTE, Shape};
use crate::model::pipeline::Micros;

/// A tenant.
#[derive(Debug)]
pub struct Organisation {
    pub id: &'static str,
    /// Its share of the traffic over a day, in thousandths of the platform's.
    pub share: u32,
    /// Its time zone, in hours east of UTC.
    pub utc_offset_h: i64,
    pub users: u64,
}

/// The tenants, from the largest to the smallest: the largest has sixty times the traffic of the smallest.
pub const ORGANISATIONS: [Organisation; 12] = [
    organisation("org_atlas", 300, 1, 4_000),
    organisation("org_borealis", 200, -5, 2_500),
    organisation("org_cedar", 140, 2, 1_800),
    organisation("org_delta", 100, 0, 1_200),
    organisation("org_ember", 80, 1, 900),
    organisation("org_fjord", 60, 8, 700),
    organisation("org_garnet", 40, 2, 450),
    organisation("org_harbour", 30, 0, 300),
    organisation("org_iris", 20, -8, 200),
    organisation("org_juniper", 15, 1, 120),
    organisation("org_kestrel", 10, 3, 80),
    organisation("org_lumen", 5, 1, 25),
];

const fn organisation(id: &'static str, share: u32, utc_offset_h: i64, users: u64) -> Organisation {
    Organisation { id, share, utc_offset_h, users }
}

/// A part of the platform.
#[derive(Debug)]
pub struct Module {
    pub name: &'static str,
    /// Where its logs come from.
    pub source: &'static str,
    pub cpu_percent: f64,
    pub memory_percent: f64,
    /// The exception that it throws and handles now and then, and what it says.
    pub exception: (&'static str, &'static str),
}

/// The modules; [`super::activity`] says what is done in them, by their number here.
pub const MODULES: [Module; 10] = [
    module("threat-analysis", "edge", 46.0, 58.0, ("UpstreamTimeout", "threat feed \"nvd\" did not answer in 10 s")),
    module("vulnerability", "edge", 41.0, 61.0, ("ScanRejected", "scanner is busy, the scan was queued")),
    module("risk-matrix", "edge", 38.0, 64.0, ("StaleCache", "matrix cache was older than its source")),
    module("pit", "supabase", 29.0, 47.0, ("ConflictingEdit", "task was changed by another user")),
    module("watchdog", "supabase", 22.0, 39.0, ("LockNotAvailable", "watchdog run skipped: could not obtain lock")),
    module("exports", "edge", 52.0, 66.0, ("ExportTooLarge", "export was split into parts of 10 MB")),
    module("auth", "supabase", 33.0, 44.0, ("TokenExpired", "refresh token was expired")),
    module("integrations", "edge", 35.0, 52.0, ("RemoteUnavailable", "webhook target answered 503, will retry")),
    module("dashboard", "frontend", 27.0, 49.0, ("ChunkLoadError", "loading chunk 17 failed, reloaded")),
    module("notifications", "edge", 24.0, 42.0, ("MailboxFull", "recipient's mailbox is full")),
];

const fn module(
    name: &'static str,
    source: &'static str,
    cpu_percent: f64,
    memory_percent: f64,
    exception: (&'static str, &'static str),
) -> Module {
    Module { name, source, cpu_percent, memory_percent, exception }
}

/// The number of an organisation and a module, as [`keys`] and `steady` count them.
pub(super) fn pair(organisation: usize, module: usize) -> usize {
    organisation * MODULES.len() + module
}

/// The key of every pair's records.
pub(super) fn keys() -> Vec<Box<[u8]>> {
    let of = |organisation: &Organisation| {
        let id = organisation.id;
        MODULES.iter().map(move |module| format!("{id}/{}", module.name).into_bytes().into_boxed_slice())
    };
    ORGANISATIONS.iter().flat_map(of).collect()
}

/// Slots of [`Population`]'s table: the smallest organisation still gets several at every hour.
const SLOTS: u32 = 4_096;

/// How the traffic divides among the organisations at a time of day: a table to pick from, made anew each minute.
#[derive(Debug, Default)]
pub(super) struct Population {
    minute: Option<Micros>,
    slots: Vec<u8>,
    activity: f64,
}

impl Population {
    /// Turns to the minute of `time`.
    pub(super) fn adapt(&mut self, shape: Shape, time: Micros) {
        let minute = time.div_euclid(MINUTE);
        if self.minute.replace(minute) == Some(minute) {
            return;
        }
        self.activity = activity(shape, time);
        self.slots.clear();
        let mut reached = 0.0;
        for (number, share) in (0_u8..).zip(shares(shape, time)) {
            reached += share;
            self.slots.resize((reached * f64::from(SLOTS)).round() as usize, number);
        }
    }

    /// The platform's traffic now, as a multiple of its mean over a day.
    pub(super) fn activity(&self) -> f64 {
        self.activity
    }

    /// An organisation, by its share of the traffic now.
    pub(super) fn pick(&self, chance: &mut Chance) -> usize {
        let slot = chance.below(self.slots.len() as u64) as usize;
        self.slots.get(slot).map_or(0, |number| usize::from(*number))
    }
}

/// The platform's traffic at a time, as a multiple of its mean over a day.
pub fn activity(shape: Shape, time: Micros) -> f64 {
    let minute = time.div_euclid(MINUTE);
    let now: f64 = ORGANISATIONS.iter().map(|one| f64::from(one.share) * busy(shape, one, minute)).sum();
    now / ORGANISATIONS.iter().map(|one| f64::from(one.share)).sum::<f64>()
}

/// Each organisation's share of the traffic at a time.
pub(super) fn shares(shape: Shape, time: Micros) -> [f64; ORGANISATIONS.len()] {
    let minute = time.div_euclid(MINUTE);
    let traffic = ORGANISATIONS.each_ref().map(|one| f64::from(one.share) * busy(shape, one, minute));
    let total: f64 = traffic.iter().sum();
    traffic.map(|one| one / total)
}

/// Traffic of an organisation as a multiple of its own mean over a day: a quiet night, and office hours from 7 to 20.
fn busy(shape: Shape, organisation: &Organisation, minute: i64) -> f64 {
    const NIGHT: f64 = 0.3;
    const NOON: f64 = 1.4;
    const MEAN: f64 = NIGHT + NOON * std::f64::consts::FRAC_2_PI * 13.0 / 24.0;
    let hour = (minute + organisation.utc_offset_h * 60).rem_euclid(24 * 60) as f64 / 60.0;
    match shape {
        Shape::Flat => 1.0,
        Shape::Day => {
            (NIGHT + NOON * (std::f64::consts::PI * (hour - 7.0) / 13.0).sin().max(0.0) * office(hour)) / MEAN
        }
    }
}

/// 1 in office hours, else 0: the sine of [`busy`] is positive again at night.
fn office(hour: f64) -> f64 {
    if (7.0..20.0).contains(&hour) { 1.0 } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_has_the_mean_rate_and_a_busy_noon() {
        let mut population = Population::default();
        let mut day = Vec::new();
        for minute in 0..24 * 60 {
            population.adapt(Shape::Day, minute * MINUTE);
            day.push(population.activity());
        }
        let mean = day.iter().sum::<f64>() / day.len() as f64;
        assert!((mean - 1.0).abs() < 0.01, "{mean}");
        assert!(day[12 * 60] > 1.5 && day[2 * 60] < 0.8, "noon {} night {}", day[12 * 60], day[2 * 60]);
    }

    #[test]
    fn the_largest_organisation_has_its_share() {
        let (mut population, mut chance) = (Population::default(), Chance::new(3, 0));
        population.adapt(Shape::Flat, 0);
        let largest = (0..100_000).filter(|_| population.pick(&mut chance) == 0).count();
        let smallest = (0..100_000).filter(|_| population.pick(&mut chance) == 11).count();
        assert!((29_000..31_000).contains(&largest), "{largest}");
        assert!((350..650).contains(&smallest), "{smallest}");
    }
}
