#include "report.h"

#include <cctype>
#include <cstdio>
#include <cstdlib>
#include <fstream>

namespace bench {
namespace {

std::string format_number(double value, const char* format) {
    char text[64];
    std::snprintf(text, sizeof text, format, value);
    return text;
}

// The letters of a title, up to its first mark.
std::string file_name(const std::string& title) {
    std::string out;
    for (const char c : title) {
        if (std::isalnum(static_cast<unsigned char>(c)))
            out += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
        else if (c == ' ' || c == '_')
            out += '-';
        else if (c != '\'')
            break;
    }
    return out;
}

std::string quote(const std::string& text) {
    std::string out = "\"";
    for (const char c : text) {
        if (c == '"' || c == '\\') out += '\\';
        out += c;
    }
    return out + '"';
}

}  // namespace

Field::Field(std::string with_name, double value, const char* format)
    : name(std::move(with_name)), text(format_number(value, format)), json(format_number(value, "%.6g")) {}
Field::Field(std::string with_name, int64_t value)
    : name(std::move(with_name)), text(std::to_string(value)), json(text) {}
Field::Field(std::string with_name, const std::string& value)
    : name(std::move(with_name)), text(value), json(quote(value)) {}

Report::Report(const std::string& folder, const std::string& stage) : path_(folder + "/" + stage) {
    std::ifstream in(path_ + ".jsonl");
    for (std::string line; std::getline(in, line);) remember(line);
}

void Report::remember(const std::string& line) {
    const std::string begin = "{\"key\": \"";
    if (line.compare(0, begin.size(), begin) != 0) return;
    const std::string key = line.substr(begin.size(), line.find('"', begin.size()) - begin.size());
    keys_.insert(key);
    lines_.emplace_back(key, line);
}

void Report::add(const std::string& table, const std::string& key, const std::vector<Field>& fields) {
    std::string line = "{\"key\": " + quote(key) + ", \"table\": " + quote(table);
    std::string row = "|", header = "|", rule = "|";
    for (const Field& field : fields) {
        line += ", " + quote(field.name) + ": " + field.json;
        row += " " + field.text + " |";
        header += " " + field.name + " |";
        rule += " ---: |";
    }
    line += "}";
    const std::string path = path_ + "-" + file_name(table) + ".md";
    const bool is_new = !std::ifstream(path).good();
    std::ofstream markdown(path, std::ios::app);
    if (is_new) markdown << "\n" << table << "\n\n" << header << "\n" << rule << "\n";
    markdown << row << "\n";
    std::ofstream(path_ + ".jsonl", std::ios::app) << line << "\n";
    std::printf("%s: %s\n", table.c_str(), row.c_str());
    std::fflush(stdout);
    remember(line);
}

double Report::number(const std::string& key, const std::string& field) const {
    for (const auto& [name, line] : lines_) {
        if (name != key) continue;
        const std::string begin = "\"" + field + "\": ";
        const size_t at = line.find(begin);
        return at == std::string::npos ? -1 : std::strtod(line.c_str() + at + begin.size(), nullptr);
    }
    return -1;
}

}  // namespace bench
