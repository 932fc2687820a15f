//! The graphics processor: whether models are loaded onto it. Pure: what happens is told, with the time.
//!
//! One that fails is left alone for a while, longer after each failure in a row, and then tried again. What failed is
//! served by the processor meanwhile, so a broken device costs a short pause at most, and ever more seldom.

use std::time::Duration;

use allerac_engine_link::{GpuDevice, GpuMode, choose_gpu};

/// How long a graphics processor is left alone that failed; it doubles with each failure in a row.
const RETRY_FIRST: Duration = Duration::from_secs(10);
/// The longest such time.
const RETRY_MAX: Duration = Duration::from_secs(60 * 60);
/// An engine that computed for so long before it failed shows that the device is sound.
pub(crate) const SOUND_AFTER: Duration = Duration::from_secs(10 * 60);

/// Time since the keeper began.
type Moment = Duration;

/// Whether models are loaded onto a graphics processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GpuStanding {
    /// The configuration says that none is to be used.
    Off,
    /// llama.cpp's module for them is not installed.
    NoModule,
    /// It is being looked for.
    Looking,
    /// There is none that has memory of its own.
    Absent,
    /// Models are loaded onto it.
    Ready,
    /// It failed, and is tried again later.
    Failed,
    /// It was ejected.
    Ejected,
}

impl GpuStanding {
    /// In a word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::NoModule => "no_module",
            Self::Looking => "looking",
            Self::Absent => "absent",
            Self::Ready => "ready",
            Self::Failed => "failed",
            Self::Ejected => "ejected",
        }
    }
}

/// What others see of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuView {
    /// Whether models are loaded onto it.
    pub standing: GpuStanding,
    /// Why it is not used, where there is more to say.
    pub reason: Option<String>,
    /// How long until it is tried again.
    pub retry_in: Option<Duration>,
    /// All that there are.
    pub devices: Vec<GpuDevice>,
    /// The name of the one that models are loaded onto.
    pub chosen: Option<String>,
}

impl GpuView {
    /// Before anything is known.
    pub(crate) fn looking() -> Self {
        Gpu::new(GpuMode::Auto, true).view(Moment::ZERO)
    }
}

/// What is known of it.
#[derive(Debug)]
pub(crate) struct Gpu {
    mode: GpuMode,
    has_module: bool,
    was_listed: bool,
    is_listing: bool,
    devices: Vec<GpuDevice>,
    reason: Option<String>,
    is_ejected: bool,
    /// Failures in a row.
    failures: u32,
    retry: Option<Moment>,
}

impl Gpu {
    pub(crate) fn new(mode: GpuMode, has_module: bool) -> Self {
        Self {
            mode,
            has_module,
            was_listed: false,
            is_listing: false,
            devices: Vec::new(),
            reason: None,
            is_ejected: false,
            failures: 0,
            retry: None,
        }
    }

    /// Whether there may ever be one to use.
    pub(crate) fn is_possible(&self) -> bool {
        self.mode != GpuMode::Off && self.has_module
    }

    /// Whether it is not known yet what there is: models that are loaded now may miss it.
    pub(crate) fn is_unknown(&self) -> bool {
        self.is_possible() && !self.was_listed
    }

    /// Whether to list the devices now; then whoever asks does.
    pub(crate) fn begin_list(&mut self, now: Moment, has_changed: bool) -> bool {
        let is_due = !self.was_listed || has_changed || self.retry.is_some_and(|retry| retry <= now);
        let begins = self.is_possible() && !self.is_listing && is_due;
        self.is_listing |= begins;
        begins
    }

    /// The devices that there are now.
    pub(crate) fn listed(&mut self, list: Result<Vec<GpuDevice>, String>, now: Moment) {
        self.was_listed = true;
        self.is_listing = false;
        let was_tried = self.retry.take().is_some();
        match list {
            Ok(devices) => {
                self.devices = devices;
                // What was unplugged may come back, and is used then. A list that failed does not say that it was.
                self.is_ejected &= self.suitable().is_some();
            }
            Err(reason) => {
                self.devices.clear();
                self.reason = Some(reason);
            }
        }
        if self.suitable().is_none() {
            if was_tried {
                self.wait(now);
            }
        } else if !self.is_ejected {
            self.reason = None;
        }
    }

    /// An engine failed that used it, after it had lived for so long.
    pub(crate) fn failed(&mut self, reason: String, lived: Duration, now: Moment) {
        if lived >= SOUND_AFTER {
            self.failures = 0;
        }
        self.reason = Some(reason);
        // What took one engine took the others too, and tells nothing more of the device.
        if self.retry.is_none() {
            self.wait(now);
        }
    }

    fn wait(&mut self, now: Moment) {
        let wait = RETRY_FIRST.saturating_mul(1 << self.failures.min(16)).min(RETRY_MAX);
        self.failures = self.failures.saturating_add(1);
        self.retry = Some(now + wait);
    }

    /// No model is loaded onto it any more.
    pub(crate) fn eject(&mut self) {
        // Where there is none, one that is plugged in later would not be used.
        self.is_ejected |= !self.was_listed || self.suitable().is_some();
        self.retry = None;
    }

    /// It is used again, whatever happened before.
    pub(crate) fn allow(&mut self) {
        self.is_ejected = false;
        self.failures = 0;
        self.retry = None;
        // Nothing is loaded before it is known what there is.
        self.was_listed = false;
    }

    /// The device that models are to be loaded onto.
    pub(crate) fn device(&self) -> Option<&GpuDevice> {
        self.suitable().filter(|_| self.standing() == GpuStanding::Ready)
    }

    fn suitable(&self) -> Option<&GpuDevice> {
        choose_gpu(&self.devices, self.mode)
    }

    /// When there is something to do though nothing happens.
    pub(crate) fn next_moment(&self) -> Option<Moment> {
        // While they are listed the list is what comes next: a moment that has passed would have the keeper spin.
        self.retry.filter(|_| !self.is_listing)
    }

    fn standing(&self) -> GpuStanding {
        match () {
            () if self.mode == GpuMode::Off => GpuStanding::Off,
            () if !self.has_module => GpuStanding::NoModule,
            () if !self.was_listed => GpuStanding::Looking,
            () if self.is_ejected => GpuStanding::Ejected,
            () if self.retry.is_some() => GpuStanding::Failed,
            () if self.suitable().is_none() => GpuStanding::Absent,
            () => GpuStanding::Ready,
        }
    }

    pub(crate) fn view(&self, now: Moment) -> GpuView {
        GpuView {
            standing: self.standing(),
            reason: self.reason.clone(),
            retry_in: self.retry.map(|retry| retry.saturating_sub(now)),
            devices: self.devices.clone(),
            chosen: self.device().map(|device| device.name.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn device(name: &str, gib: u64, is_integrated: bool) -> GpuDevice {
        let memory_bytes = gib << 30;
        GpuDevice { name: name.into(), description: name.into(), is_integrated, memory_bytes, free_bytes: memory_bytes }
    }

    fn ready() -> Gpu {
        let mut gpu = Gpu::new(GpuMode::Auto, true);
        assert!(gpu.is_unknown() && gpu.begin_list(s(0), false) && !gpu.begin_list(s(0), false));
        gpu.listed(Ok(vec![device("shared", 64, true), device("small", 8, false), device("large", 16, false)]), s(0));
        assert_eq!(gpu.device().unwrap().name, "large");
        gpu
    }

    #[test]
    fn what_shares_memory_is_not_used() {
        let mut gpu = Gpu::new(GpuMode::Auto, true);
        gpu.listed(Ok(vec![device("shared", 64, true)]), s(0));
        assert_eq!((gpu.view(s(0)).standing, gpu.device()), (GpuStanding::Absent, None));
        assert!(!gpu.begin_list(s(1_000_000), false) && gpu.begin_list(s(1_000_000), true));
        let mut told_to = Gpu::new(GpuMode::On, true);
        told_to.listed(Ok(vec![device("shared", 64, true)]), s(0));
        assert_eq!(told_to.device().unwrap().name, "shared");
        for (never, why) in
            [(Gpu::new(GpuMode::Off, true), GpuStanding::Off), (Gpu::new(GpuMode::On, false), GpuStanding::NoModule)]
        {
            assert!(!never.is_unknown());
            assert_eq!(never.view(s(0)).standing, why);
        }
    }

    #[test]
    fn each_failure_in_a_row_is_followed_by_a_longer_wait() {
        let mut gpu = ready();
        let mut now = s(100);
        let mut waits = Vec::new();
        for _ in 0..12 {
            gpu.failed("lost".into(), s(1), now);
            let view = gpu.view(now);
            assert_eq!(
                (view.standing, view.reason.as_deref(), gpu.device()),
                (GpuStanding::Failed, Some("lost"), None)
            );
            let retry = gpu.next_moment().unwrap();
            waits.push((retry - now).as_secs());
            assert!(!gpu.begin_list(retry - s(1), false) && gpu.begin_list(retry, false));
            assert_eq!(gpu.next_moment(), None);
            gpu.listed(Ok(vec![device("large", 16, false)]), retry);
            assert_eq!((gpu.view(retry).standing, gpu.view(retry).reason), (GpuStanding::Ready, None));
            now = retry;
        }
        assert_eq!(waits, [10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600, 3600]);
        gpu.failed("lost".into(), SOUND_AFTER, now);
        assert_eq!(gpu.next_moment(), Some(now + RETRY_FIRST));
    }

    #[test]
    fn engines_that_fail_together_are_one_failure() {
        let mut gpu = ready();
        for second in 0..5 {
            gpu.failed("lost".into(), s(1), s(second));
        }
        assert_eq!((gpu.failures, gpu.next_moment()), (1, Some(s(10))));
    }

    #[test]
    fn one_that_is_gone_is_looked_for_until_it_is_back() {
        let mut gpu = ready();
        gpu.failed("lost".into(), s(1), s(0));
        assert!(gpu.begin_list(s(10), false));
        gpu.listed(Err("no driver".into()), s(10));
        assert_eq!((gpu.view(s(10)).standing, gpu.next_moment()), (GpuStanding::Failed, Some(s(30))));
        assert_eq!(gpu.view(s(10)).reason.as_deref(), Some("no driver"));
        // It is plugged in before that time.
        assert!(gpu.begin_list(s(12), true));
        gpu.listed(Ok(vec![device("large", 16, false)]), s(12));
        assert_eq!(gpu.view(s(12)).standing, GpuStanding::Ready);
    }

    #[test]
    fn an_ejected_one_stays_so_until_it_is_allowed_or_plugged_in_anew() {
        let mut gpu = ready();
        gpu.eject();
        assert_eq!((gpu.view(s(0)).standing, gpu.device()), (GpuStanding::Ejected, None));
        gpu.listed(Ok(vec![device("large", 16, false)]), s(1));
        assert_eq!(gpu.view(s(1)).standing, GpuStanding::Ejected);
        gpu.allow();
        assert!(gpu.is_unknown() && gpu.begin_list(s(2), false));
        gpu.listed(Ok(vec![device("large", 16, false)]), s(2));
        assert_eq!(gpu.view(s(2)).standing, GpuStanding::Ready);
        gpu.eject();
        gpu.listed(Err("the driver is busy".into()), s(3));
        gpu.listed(Ok(vec![device("large", 16, false)]), s(3));
        assert_eq!(gpu.view(s(3)).standing, GpuStanding::Ejected);
        gpu.listed(Ok(Vec::new()), s(3));
        gpu.listed(Ok(vec![device("large", 16, false)]), s(4));
        assert_eq!(gpu.view(s(4)).standing, GpuStanding::Ready);
    }

    #[test]
    fn where_there_is_none_nothing_is_ejected() {
        let mut gpu = Gpu::new(GpuMode::Auto, true);
        // It is not known yet: what is found is ejected, and where nothing is found nothing is.
        gpu.eject();
        gpu.listed(Ok(Vec::new()), s(0));
        assert_eq!(gpu.view(s(0)).standing, GpuStanding::Absent);
        gpu.eject();
        gpu.listed(Ok(vec![device("large", 16, false)]), s(1));
        assert_eq!(gpu.view(s(1)).standing, GpuStanding::Ready);
        let mut early = Gpu::new(GpuMode::Auto, true);
        early.eject();
        early.listed(Ok(vec![device("large", 16, false)]), s(0));
        assert_eq!(early.view(s(0)).standing, GpuStanding::Ejected);
    }
}
