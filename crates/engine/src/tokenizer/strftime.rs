//! Dates in chat templates: Python's `strftime` on a moment in UTC.

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

/// Formats the moment `seconds` after 1970-01-01 00:00 UTC. Directives that are not known stay as
/// they are, which is what the C library does with them.
pub(super) fn strftime(format: &str, seconds: i64) -> String {
    let days = seconds.div_euclid(86_400);
    let second_of_day = seconds.rem_euclid(86_400);
    let (hour, minute, second) = (second_of_day / 3600, second_of_day / 60 % 60, second_of_day % 60);
    let (year, month, day) = civil(days);
    let month_name = MONTHS[month as usize - 1];
    // 1970-01-01 was a Thursday.
    let weekday = (days + 3).rem_euclid(7);
    let day_name = DAYS[weekday as usize];
    let day_of_year = days - days_since_epoch(year, 1, 1) + 1;
    let hour12 = (hour + 11) % 12 + 1;

    let mut out = String::new();
    let mut rest = format.chars();
    while let Some(c) = rest.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut directive = rest.next();
        // "%-d" is the number without padding.
        let pad = directive != Some('-');
        if !pad {
            directive = rest.next();
        }
        let mut number = |value: i64, width: usize| {
            let width = if pad { width } else { 1 };
            out.push_str(&format!("{value:0width$}"));
        };
        match directive {
            Some('d') => number(day, 2),
            Some('m') => number(month, 2),
            Some('y') => number(year.rem_euclid(100), 2),
            Some('Y') => number(year, 4),
            Some('H') => number(hour, 2),
            Some('I') => number(hour12, 2),
            Some('M') => number(minute, 2),
            Some('S') => number(second, 2),
            Some('j') => number(day_of_year, 3),
            Some('w') => number((weekday + 1) % 7, 1),
            Some('u') => number(weekday + 1, 1),
            Some('B') => out.push_str(month_name),
            Some('b' | 'h') => out.push_str(&month_name[..3]),
            Some('A') => out.push_str(day_name),
            Some('a') => out.push_str(&day_name[..3]),
            Some('p') => out.push_str(if hour < 12 { "AM" } else { "PM" }),
            Some('F') => out.push_str(&strftime("%Y-%m-%d", seconds)),
            Some('T' | 'X') => out.push_str(&strftime("%H:%M:%S", seconds)),
            Some('R') => out.push_str(&strftime("%H:%M", seconds)),
            Some('D' | 'x') => out.push_str(&strftime("%m/%d/%y", seconds)),
            Some('Z') => out.push_str("UTC"),
            Some('%') => out.push('%'),
            Some(other) => out.extend(['%', other]),
            None => out.push('%'),
        }
    }
    out
}

/// Days from 1970-01-01 to a date of the Gregorian calendar. Counting years from March puts the leap
/// day last, so months before it have lengths that one linear formula gives.
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// The date (year, month, day) that many days after 1970-01-01.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let month = (from_march + 2) % 12 + 1;
    let year = shifted.div_euclid(146_097) * 400 + year_of_era + i64::from(month <= 2);
    (year, month, day_of_year - (153 * from_march + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_moments() {
        // Expected values are Python's datetime.fromtimestamp(t, timezone.utc).strftime.
        assert_eq!(strftime("%d %b %Y", 1_721_952_000), "26 Jul 2024");
        assert_eq!(
            strftime("%A, %B %-d, %Y %H:%M:%S %j %p %I", 951_827_696),
            "Tuesday, February 29, 2000 12:34:56 060 PM 12"
        );
        assert_eq!(strftime("%F %T %a %y 100%% %Q", -1), "1969-12-31 23:59:59 Wed 69 100% %Q");
    }

    #[test]
    fn calendar_round_trip() {
        let mut previous = civil(-800_001);
        for days in -800_000..800_000 {
            let date = civil(days);
            assert_eq!(days_since_epoch(date.0, date.1, date.2), days);
            assert!(date > previous);
            previous = date;
        }
    }
}
