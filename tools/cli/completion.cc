#include "tools/cli/completion.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <vector>

namespace kvfs::cli {
namespace {

struct Flag {
  std::string name;  // "--json"
  std::string help;
};

// One command or sub-subcommand: "ls", "ns create".
struct Entry {
  std::string path;
  std::string help;
  std::vector<Flag> flags;
  std::vector<std::string> children;
  bool takes_namespace = false;
};

Entry entry_of(const CLI::App& command, const std::string& path) {
  Entry entry{.path = path, .help = command.get_description()};
  for (const CLI::Option* option : command.get_options()) {
    for (const std::string& name : option->get_lnames()) {
      entry.flags.push_back({"--" + name, option->get_description()});
    }
    const std::string positional = option->get_name(true);
    const bool names_a_namespace = positional.find("NAMESPACE") != std::string::npos ||
                                   positional.find("PREFIX") != std::string::npos;
    entry.takes_namespace = entry.takes_namespace || names_a_namespace;
  }
  return entry;
}

void collect(const CLI::App& app, const std::string& path, std::vector<Entry>& out) {
  const std::size_t at = out.size();
  out.push_back(entry_of(app, path));
  for (const CLI::App* child : app.get_subcommands([](const CLI::App*) { return true; })) {
    out[at].children.push_back(child->get_name());
    collect(*child, path.empty() ? child->get_name() : path + " " + child->get_name(), out);
  }
}

std::string words_of(const Entry& entry) {
  std::vector<std::string> words = entry.children;
  for (const Flag& flag : entry.flags) words.push_back(flag.name);
  std::string text = fmt::format("{}", fmt::join(words, " "));
  if (entry.takes_namespace) text += " $(kvfs ns list --names 2>/dev/null)";
  return text;
}

// The words before the cursor that are commands select the list.
std::string bash_script(const std::vector<Entry>& entries) {
  std::string cases;
  for (const Entry& entry : entries) {
    cases += fmt::format("    '{}') words=\"{}\" ;;\n", entry.path, words_of(entry));
  }
  return fmt::format(
      R"(# bash completion of kvfs: source it, or put it into /usr/share/bash-completion/completions/kvfs
_kvfs() {{
  local current=${{COMP_WORDS[COMP_CWORD]}} path='' words='' i
  for ((i = 1; i < COMP_CWORD; i++)); do
    case ${{COMP_WORDS[i]}} in
      -*) ;;
      *)
        if [[ $path == '' || $path == ns ]]; then path="${{path:+$path }}${{COMP_WORDS[i]}}"; fi
        ;;
    esac
  done
  case $path in
{}    *) words='' ;;
  esac
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
  if [[ ${{#COMPREPLY[@]}} -eq 0 ]]; then mapfile -t COMPREPLY < <(compgen -f -- "$current"); fi
}}
complete -o filenames -F _kvfs kvfs
)",
      cases);
}

std::string zsh_script(const std::vector<Entry>& entries) {
  return "#compdef kvfs\n# zsh completion of kvfs: put it into a directory of $fpath as _kvfs\n"
         "autoload -U +X bashcompinit && bashcompinit\n" +
         bash_script(entries);
}

std::string fish_quoted(const std::string& text) {
  std::string out = "'";
  for (const char c : text) {
    if (c == '\'' || c == '\\') out += '\\';
    out += c;
  }
  return out + "'";
}

std::string fish_script(const std::vector<Entry>& entries) {
  std::string out =
      "# fish completion of kvfs: put it into ~/.config/fish/completions/kvfs.fish\ncomplete -c "
      "kvfs -e\n";
  for (const Entry& entry : entries) {
    if (entry.path.empty()) continue;
    const std::size_t blank = entry.path.find(' ');
    const std::string parent = blank == std::string::npos ? "" : entry.path.substr(0, blank);
    const std::string name = blank == std::string::npos ? entry.path : entry.path.substr(blank + 1);
    const std::string where =
        parent.empty() ? "__fish_use_subcommand" : "__fish_seen_subcommand_from " + parent;
    out += fmt::format("complete -c kvfs -f -n {} -a {} -d {}\n", fish_quoted(where), name,
                       fish_quoted(entry.help));
    const std::string seen = fish_quoted("__fish_seen_subcommand_from " + name);
    for (const Flag& flag : entry.flags) {
      out += fmt::format("complete -c kvfs -n {} -l {} -d {}\n", seen, flag.name.substr(2),
                         fish_quoted(flag.help));
    }
    if (entry.takes_namespace) {
      out += fmt::format("complete -c kvfs -n {} -a '(kvfs ns list --names 2>/dev/null)'\n", seen);
    }
  }
  return out;
}

}  // namespace

Result<std::string> completion_script(const CLI::App& app, const std::string& shell) {
  std::vector<Entry> entries;
  collect(app, "", entries);
  if (shell == "bash") return bash_script(entries);
  if (shell == "zsh") return zsh_script(entries);
  if (shell == "fish") return fish_script(entries);
  return fail(Code::kInvalid,
              fmt::format("'{}' is no shell that is known: use bash, zsh or fish", shell));
}

}  // namespace kvfs::cli
