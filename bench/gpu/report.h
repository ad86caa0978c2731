// Results as they come: a line of JSON each in STAGE.jsonl, a row of Markdown in STAGE-TABLE.md. What stands there
// already is not measured again, so that a stage that was stopped goes on where it was.
#pragma once

#include <set>
#include <string>
#include <utility>
#include <vector>

namespace bench {

struct Field {
    std::string name;
    std::string text;  // as Markdown shows it
    std::string json;  // as JSON has it
    Field(std::string with_name, double value, const char* format = "%.4g");
    Field(std::string with_name, int64_t value);
    Field(std::string with_name, const std::string& value);
};

class Report {
  public:
    Report(const std::string& folder, const std::string& stage);
    bool has(const std::string& key) const { return keys_.count(key) != 0; }
    // A table's rows have the same fields.
    void add(const std::string& table, const std::string& key, const std::vector<Field>& fields);
    // The number in a field of an earlier line; -1: there is none.
    double number(const std::string& key, const std::string& field) const;

  private:
    std::string path_;  // without what tells the files apart
    std::set<std::string> keys_;
    std::vector<std::pair<std::string, std::string>> lines_;  // key, line
    void remember(const std::string& line);
};

}  // namespace bench
