//! Bash, which takes `--set split=x` apart at the `=` and leaves quotes as they were typed: its script puts words together
//! again, as the program would get them.

use std::ffi::OsString;
use std::io;
use std::path::Path;

use clap_complete::engine::complete;
use clap_complete::env::EnvCompleter;

/// Words up to the cursor are asked about, and candidates come one per line. Of each, bash is given what stands behind
/// the last `=`, which is all that it replaces, quoted unless a quote is open.
const SCRIPT: &str = r#"
_amend() {
    local words=() last=-1 i word typed="" known quote=""
    for ((i = 0; i <= COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        if ((i == COMP_CWORD)) && [[ $word != "=" ]]; then
            [[ $word == [\'\"]* ]] && quote=${word:0:1}
            word=$2
        fi
        if [[ $word == \'*\' || $word == \"*\" ]]; then
            word=${word:1:-1}
        elif ((i < COMP_CWORD)) || [[ -z $quote ]]; then
            # Without -r, it takes backslashes as the shell does.
            IFS= read word <<< "$word"
        fi
        if ((i == COMP_CWORD)) && [[ $word != "=" ]]; then
            typed=$word
        fi
        if ((i > 1)) && [[ $word == "=" || ${COMP_WORDS[i - 1]} == "=" ]]; then
            words[last]+=$word
        else
            words[++last]=$word
        fi
    done
    known=${words[last]%"$typed"}
    COMPREPLY=()
    while IFS= read -r word; do
        word=${word#"$known"}
        [[ $quote ]] || printf -v word %q "$word"
        # Quoted, the user's home would be a folder called so.
        [[ $word == '\~/'* ]] && word=${word#\\}
        COMPREPLY+=("$word")
    done < <(ASKED=bash PROGRAM -- "${words[@]}" 2> /dev/null)
    if [[ ${COMPREPLY-} == *[=/] ]]; then
        compopt -o nospace 2> /dev/null
    fi
}
complete -o bashdefault -o nosort -F _amend amend 2> /dev/null || complete -o bashdefault -F _amend amend
"#;

/// The shell.
pub(super) struct Bash;

impl EnvCompleter for Bash {
    fn name(&self) -> &'static str {
        "bash"
    }

    fn is(&self, name: &str) -> bool {
        name == "bash"
    }

    fn write_registration(
        &self,
        asked: &str,
        _: &str,
        _: &str,
        program: &str,
        out: &mut dyn io::Write,
    ) -> io::Result<()> {
        let program = format!("'{}'", program.replace('\'', r"'\''"));
        out.write_all(SCRIPT.trim_start().replace("ASKED", asked).replace("PROGRAM", &program).as_bytes())
    }

    fn write_complete(
        &self,
        command: &mut clap::Command,
        words: Vec<OsString>,
        folder: Option<&Path>,
        out: &mut dyn io::Write,
    ) -> io::Result<()> {
        let last = words.len().saturating_sub(1);
        let flags_too = words.get(last).is_none_or(|word| !word.is_empty());
        let candidates = complete(command, words, last, folder)?;
        let is_flag = |value: &str| value.starts_with('-');
        let values = || candidates.iter().map(|candidate| candidate.get_value().to_string_lossy());
        // Where there is something to choose from, flags would bury it. A `-` shows them.
        let flags_too = flags_too || values().all(|value| is_flag(&value));
        for value in values().filter(|value| flags_too || !is_flag(value)) {
            writeln!(out, "{value}")?;
        }
        Ok(())
    }
}
