using System.CommandLine;
using KCacheNative.Console.Options;
using KCacheNative.Console.Output;
using KCacheNative.Engine;
using KCacheNative.Formats;
using KCacheNative.Models;
using KCacheNative.Runtime;
using Spectre.Console;

namespace KCacheNative.Console.Commands;

/// <summary>`kcache plan`: what memory each policy needs, before anything is loaded.</summary>
internal static class PlanCommand
{
    private static readonly PolicyKind[] Kinds = [PolicyKind.Full, PolicyKind.Window, PolicyKind.KCache, PolicyKind.Sketch];

    internal static Command Create(Terminal terminal)
    {
        var model = ModelArgument.Required();
        var batch = OptionFactory.Integer("--batch", 1, 65536, "Sequences at once (default: 1)", "B");
        var policy = new PolicyOptions("all that are offered");
        var machine = new MachineOptions(" (default: what the model was trained for, at most 8192)");
        var json = OptionFactory.Flag("--json", "Print JSON alone");
        var command = new Command("plan", "Show what memory each policy needs, before anything is loaded") { model, batch };
        policy.AddTo(command);
        machine.AddTo(command);
        command.Add(json);
        command.SetAction(call =>
        {
            using var file = ModelSource.Open(call.GetRequiredValue(model));
            using var context = new ComputeContext(machine.ReadContext(call));
            var options = machine.ReadCache(call, machine.ReadContextTokens(call) ?? 0, call.GetValue(batch) ?? 1);
            bool isNamed = policy.ReadKind(call) is not null;
            CachePolicy[] policies = isNamed ? [policy.Read(call)] : Array.ConvertAll(Kinds, kind => policy.ReadFor(call, kind));
            var plans = policies.Select(p => Plan(file, context, p, options, onlyIfOffered: !isNamed)).OfType<PolicyPlan>().ToArray();
            var resolved = ModelConfig.FromGguf(file).CacheShape.Resolve(options);
            var report = Describe(context, machine.ReadContext(call), resolved, plans);
            if (call.GetValue(json))
                ConsoleJson.Write(terminal.Out, report);
            else
                Show(terminal.OutView, report, options.FastBudgetBytes);
            return ExitCode.Success;
        });
        return command;
    }

    private static PlanReport Describe(ComputeContext context, ContextOptions chosen, CacheOptions size, PolicyPlan[] plans)
    {
        var info = context.Info;
        bool onGpu = info.Backend == Backend.Cuda;
        var device = DeviceInfo.List(info.Backend)[onGpu ? chosen.Device : 0];
        return new PlanReport(
            size.Context,
            size.Sequences,
            MachineOptions.Word(info.Backend),
            info.Device,
            onGpu ? "device" : "ram",
            onGpu ? "pinned" : "file",
            device.MemoryBytes > 0 ? device.FreeMemoryBytes : null,
            plans);
    }

    /// <returns>Null where the policy is not offered.</returns>
    private static PolicyPlan? Plan(GgufFile file, ComputeContext context, CachePolicy policy, CacheOptions options, bool onlyIfOffered)
    {
        MemoryPlan plan;
        string? problem;
        try
        {
            plan = MemoryPlan.For(file, policy, options with { FastBudgetBytes = 0 }, context);
            problem = FastBudget.Refusal(policy, options, plan.Cache);
            if (problem is null && options.FastBudgetBytes > 0)
                plan = MemoryPlan.For(file, policy, options, context);
        }
        catch (KCacheException refusal) when (refusal.Status == Status.Unsupported && onlyIfOffered)
        {
            return null;
        }

        var cache = plan.Cache;
        return new PolicyPlan(
            PolicyOptions.Word(policy.Kind), cache.FastBytes, cache.SlowBytes, plan.WeightsBytes, plan.ActivationsBytes,
            plan.CuBlasBytes > 0 ? plan.CuBlasBytes : null, cache.FastMinimumBytes, cache.KeysBytes, cache.ValuesBytes, cache.ExactBytes, cache.HotBytes, cache.ScratchBytes, problem);
    }

    private static void Show(IAnsiConsole view, PlanReport report, long budget)
    {
        bool onGpu = report.FastHome == "device";
        string fast = onGpu ? "device memory" : "fast memory";
        string sequences = report.Batch == 1 ? "" : $" in each of {Tables.Count(report.Batch)} sequences";
        var first = report.Policies[0];
        string weights = ByteSize.Format(first.WeightsBytes), activations = ByteSize.Format(first.ActivationsBytes);
        string besides = first.CublasBytes is { } cuBlas
            ? $"weights take {weights}, activations {activations} and cuBLAS {ByteSize.Format(cuBlas)} besides."
            : $"weights take {weights} and activations {activations} besides.";
        view.WriteLine($"A cache of {Tables.Count(report.Context)} tokens{sequences}{(budget > 0 ? $", with at most {ByteSize.Format(budget)} of {fast}" : "")}; {besides}");
        if (onGpu)
            view.WriteLine($"All of it lies in the memory of {Tables.Printable(report.Device)}, of which {ByteSize.Format(report.FreeMemoryBytes ?? 0)} are free.");
        var table = Tables.Create(["", .. report.Policies.Select(plan => ">" + plan.Policy)]);
        void Row(string name, Func<PolicyPlan, long> value) =>
            table.AddRow([Tables.Cell(name), .. report.Policies.Select(plan => Tables.Cell(ByteSize.Format(value(plan))))]);
        Row(onGpu ? "Device memory" : "Fast memory", plan => plan.FastBytes);
        Row("  keys", plan => plan.KeysBytes);
        Row("  values or their sketch", plan => plan.ValuesBytes);
        Row("  exact rows", plan => plan.ExactBytes);
        Row("  hot rows", plan => plan.HotBytes);
        Row("  scratch", plan => plan.ScratchBytes);
        Row(onGpu ? "Pinned RAM, at most" : "Slow memory, at most", plan => plan.SlowBytes);
        Row("Smallest --fast-budget", plan => plan.FastMinimumBytes);
        view.Write(table);
        foreach (var plan in report.Policies.Where(plan => plan.Problem is not null))
            view.WriteLine($"{plan.Problem} The figures of {plan.Policy} are those without a budget.");
    }
}
